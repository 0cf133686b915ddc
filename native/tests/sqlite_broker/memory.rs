//! The contract on `memory://`, and its clock, which tests move.

use std::sync::Arc;
use std::time::Duration;

use pyworker_native::broker::sqlite::SqliteBroker;
use pyworker_native::clock::{Clock, SystemClock};
use pyworker_native::error::ErrorKind;
use pyworker_native::sqlite::Word;
use pyworker_native::sqlite::client::SqliteClient;
use pyworker_native::sqlite::side_clock::clock_of;

use super::file::scheduled;
use super::{STEPS, SqliteFactory};
use crate::scenarios::{Setup, exercise};
use crate::support::driver::Driver;

const HOUR: Duration = Duration::from_secs(3600);

fn consuming(factory: &SqliteFactory) -> Driver {
    let clock = clock_of(&factory.address());
    let broker = SqliteBroker::new(factory.config(&Setup::new(&["q"], "one")), clock).expect("a broker");
    Driver::connected(Box::new(broker))
}

#[test]
fn memory_keeps_the_contract() {
    exercise(&mut SqliteFactory::in_memory());
}

#[test]
fn a_moved_clock_makes_due_what_waits() {
    let mut factory = SqliteFactory::in_memory();
    let later = scheduled("later", "2100-01-01T00:00:00+00:00");
    factory.client().publish([("q", 0, later.as_slice())]).expect("published");
    let mut driver = consuming(&factory);
    driver.broker.set_demand(10);
    driver.linger(Duration::from_millis(50));
    assert!(driver.delivered.is_empty());
    // Another handle of the same file: everybody is woken.
    let other = SqliteClient::open(factory.address(), STEPS.to_vec()).expect("the file opens");
    let by = Duration::from_secs((4_102_444_801.0 - SystemClock.wall_s()) as u64);
    other.move_clock(by).expect("moved");
    driver.until("it is due", |driver| driver.delivered.len() == 1);
    assert_eq!(factory.client().clock_ahead_s(), by.as_secs_f64());
    // Nobody is dead for that.
    assert!(driver.lost.is_empty());
    driver.stop();
}

#[test]
fn a_moved_clock_ends_results() {
    let mut factory = SqliteFactory::in_memory();
    let client = factory.client();
    client.set(b"key", b"value", true, true, Some(1800)).expect("stored");
    let seen = client.seen(Word::Results);
    assert_eq!(client.get_many(&[b"key"]).expect("read"), [Some(b"value".to_vec())]);
    client.move_clock(HOUR).expect("moved");
    assert_eq!(client.get_many(&[b"key"]).expect("read"), [None]);
    assert_ne!(client.seen(Word::Results), seen);
    client.set(b"key", b"value", true, true, Some(1800)).expect("stored");
    assert_eq!(client.get_many(&[b"key"]).expect("read"), [Some(b"value".to_vec())]);
}

#[test]
fn a_durable_file_has_the_machines_clock() {
    let mut factory = SqliteFactory::new(true);
    let refusal = factory.client().move_clock(HOUR).expect_err("refused");
    assert_eq!(refusal.kind(), ErrorKind::Config);
    assert_eq!(factory.client().clock_ahead_s(), 0.0);
    let clock: Arc<dyn Clock> = clock_of(&factory.address());
    assert!((clock.wall_s() - SystemClock.wall_s()).abs() < 60.0);
}
