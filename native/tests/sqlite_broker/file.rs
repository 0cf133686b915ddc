//! What only the file promises.

use std::sync::Arc;
use std::time::Duration;

use pyworker_native::broker::Settlement;
use pyworker_native::broker::sqlite::SqliteBroker;
use pyworker_native::clock::Clock;
use pyworker_native::clock::{ManualClock, SystemClock};
use pyworker_native::sqlite::SqliteAddress;
use pyworker_native::sqlite::client::SqliteClient;

use super::{STEPS, SqliteFactory};
use crate::scenarios::{BrokerFactory, Setup};
use crate::support::driver::Driver;

fn with_clock(factory: &SqliteFactory, setup: &Setup, clock: &ManualClock) -> Driver {
    let broker = SqliteBroker::new(factory.config(setup), Arc::new(clock.clone())).expect("a broker");
    Driver::connected(Box::new(broker))
}

/// An envelope with an `eta`.
pub fn scheduled(id: &str, eta: &str) -> Vec<u8> {
    let text = String::from_utf8(crate::support::message::envelope(id, 0)).expect("text");
    text.replace(r#""eta": null"#, &format!(r#""eta": "{eta}""#)).into_bytes()
}

#[test]
fn a_scheduled_message_stays_in_the_file_until_it_is_due() {
    let mut factory = SqliteFactory::new(true);
    let clock = ManualClock::new(SystemClock.wall_s());
    // In the year 2100: due by the injected clock alone.
    let message = scheduled("later", "2100-01-01T00:00:00+00:00");
    factory.client().publish([("q", 0, message.as_slice())]).expect("published");
    factory.publish("q", "now", 0);
    let mut driver = with_clock(&factory, &Setup::new(&["q"], "one"), &clock);
    assert_eq!(driver.receive(1), ["now"]);
    assert_eq!(factory.number("SELECT count(*) FROM later"), 1);
    assert_eq!(factory.held(), 1);
    clock.advance(Duration::from_secs_f64(4_102_444_801.0 - SystemClock.wall_s()));
    factory.publish("q", "rings", 0);
    assert_eq!(driver.receive(2), ["later", "rings"]);
    driver.settle_all(Settlement::Ack);
    assert_eq!(factory.number("SELECT count(*) FROM messages"), 0);
    driver.stop();
}

#[test]
fn a_silent_node_is_given_up_by_the_clock() {
    let mut factory = SqliteFactory::new(true);
    let clock = ManualClock::new(1e9);
    factory.publish("q", "m", 0);
    let mut silent = with_clock(&factory, &Setup::new(&["q"], "silent"), &clock);
    silent.receive(1);
    // The lock of its byte says that it lives; it is the clock that says it is silent.
    clock.advance(Duration::from_secs(16));
    let mut heir = with_clock(&factory, &Setup::new(&["q"], "heir"), &clock);
    assert_eq!(heir.receive(1), ["m"]);
    assert_eq!(heir.delivered[0].deliveries, 1);
    assert_eq!(heir.broker.counters().reclaimed, 1);
    heir.stop();
    silent.stop();
}

#[test]
fn a_stopped_node_leaves_no_trace() {
    let mut factory = SqliteFactory::new(true);
    factory.publish("q", "m", 0);
    let mut driver = Driver::connected(factory.broker(&Setup::new(&["q"], "one")));
    driver.receive(1);
    let tag = driver.tags()[0];
    // Queued and not driven: the last word takes it along.
    driver.broker.settle(&[(tag, Settlement::Ack)]);
    driver.stop();
    assert_eq!(factory.number("SELECT count(*) FROM nodes"), 0);
    assert_eq!(factory.number("SELECT count(*) FROM messages"), 0);
    assert_eq!(factory.client().problems().expect("a report"), Vec::<String>::new());
}

#[test]
fn a_replaced_file_is_noticed() {
    let mut factory = SqliteFactory::new(true);
    factory.publish("q", "old", 0);
    let setup = Setup { visibility_timeout_s: 1.0, ..Setup::new(&["q"], "one") };
    let mut driver = Driver::connected(factory.broker(&setup));
    let path = factory.address().path;
    for ending in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{ending}", path.display()));
    }
    driver.until("noticed", |driver| !driver.disconnects.is_empty());
    assert!(driver.disconnects[0].0.to_string().contains("deleted or replaced"));
    driver.until("back", |driver| driver.connects == 2);
    factory.publish("q", "new", 0);
    assert_eq!(driver.receive(1), ["new"]);
    driver.stop();
}

#[test]
fn several_may_make_the_file_at_once() {
    for _ in 0..8 {
        let factory = SqliteFactory::new(true);
        let address = SqliteAddress { busy_timeout_ms: 60_000, ..factory.address() };
        let openers: Vec<_> = (0..6)
            .map(|number| {
                let address = address.clone();
                std::thread::spawn(move || {
                    let client = SqliteClient::open(address, STEPS.to_vec())?;
                    client.publish([("q", 0, format!("from {number}").as_bytes())])
                })
            })
            .collect();
        for opener in openers {
            opener.join().expect("no panic").expect("opened and published");
        }
        assert_eq!(SqliteClient::open(address, STEPS.to_vec()).expect("opens").size("q").expect("a size"), 6);
    }
}

#[test]
fn who_commits_without_ringing_is_found_by_the_slow_look() {
    let mut factory = SqliteFactory::new(true);
    factory.publish("q", "before", 0);
    let mut driver = Driver::connected(factory.broker(&Setup::new(&["q"], "one")));
    assert_eq!(driver.receive(1), ["before"]);
    driver.broker.set_demand(10);
    // The node sleeps now, and nobody wakes it.
    driver.linger(Duration::from_millis(50));
    let message = crate::support::message::envelope("silent", 0);
    factory
        .other()
        .execute_batch(&format!(
            "BEGIN IMMEDIATE; INSERT INTO messages (id, queue, step, body) VALUES (1000000, 1, 0, CAST('{}' AS BLOB)); \
             INSERT INTO ready VALUES (1, 0, 1000000); COMMIT",
            String::from_utf8(message).expect("text")
        ))
        .expect("added");
    driver.until("the silent message", |driver| driver.delivered.len() == 2);
    assert_eq!(driver.ids(), ["before", "silent"]);
    driver.stop();
}

#[test]
fn a_worker_deletes_what_is_past_its_time() {
    let mut factory = SqliteFactory::new(true);
    let clock = ManualClock::new(1e9);
    factory.client().set(b"short", b"1", true, false, Some(-1)).expect("stored");
    factory.client().set(b"long", b"2", true, false, Some(1000)).expect("stored");
    factory.client().declare_queue("unused", Some(5.0)).expect("declared");
    let mut driver = with_clock(&factory, &Setup::new(&["q"], "one"), &clock);
    clock.advance(Duration::from_secs_f64(SystemClock.wall_s() - 1e9 + 60.0));
    driver.broker.set_demand(1);
    driver.until("tidied", |_| factory.number("SELECT count(*) FROM results") == 1);
    assert_eq!(factory.client().get_many(&[b"long"]).expect("read"), [Some(b"2".to_vec())]);
    driver.until("the queue is gone", |_| factory.number("SELECT count(*) FROM queues WHERE name = 'unused'") == 0);
    driver.stop();
}

#[test]
fn a_consumed_queue_neither_expires_nor_loses_its_number() {
    let mut factory = SqliteFactory::new(true);
    let clock = ManualClock::new(SystemClock.wall_s());
    factory.client().declare_queue("short", Some(5.0)).expect("declared");
    let mut driver = with_clock(&factory, &Setup::new(&["short"], "one"), &clock);
    let number = |factory: &mut SqliteFactory| factory.number("SELECT id FROM queues WHERE name = 'short'");
    let before = number(&mut factory);
    driver.broker.set_demand(10);
    factory.client().set(b"expires", b"1", true, false, Some(30)).expect("stored");
    clock.advance(Duration::from_secs(60));
    driver.until("tidied", |_| factory.number("SELECT count(*) FROM results") == 0);
    // Deleted by somebody and used again: it is the queue that the worker reads.
    factory.client().delete_queue("short").expect("deleted");
    assert_eq!(number(&mut factory), before);
    factory.publish("short", "back", 0);
    driver.until("the message", |driver| driver.delivered.len() == 1);
    driver.broker.set_queue_active(0, false);
    driver.until("it is not consumed any more", |_| factory.number("SELECT count(*) FROM consumers") == 0);
    driver.stop();
}
