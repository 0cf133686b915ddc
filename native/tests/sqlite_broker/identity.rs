//! Which file it is, whatever the path, and of which version, however long it has been open.

use std::sync::Arc;

use pyworker_native::broker::Settlement;
use pyworker_native::broker::sqlite::SqliteBroker;
use pyworker_native::clock::SystemClock;
use pyworker_native::error::ErrorKind;
use pyworker_native::sqlite::{SqliteAddress, SqliteBrokerConfig};

use super::SqliteFactory;
use crate::scenarios::{BrokerFactory, Setup};
use crate::support::driver::Driver;

#[test]
fn who_opens_it_by_a_link_shares_the_bell_and_the_signs_of_life() {
    let mut factory = SqliteFactory::new(true);
    factory.publish("q", "first", 0);
    let mut straight = Driver::connected(factory.broker(&Setup::new(&["q"], "straight")));
    assert_eq!(straight.receive(1), ["first"]);
    let link = factory.folder.0.join("link.db");
    std::os::unix::fs::symlink(factory.address().path, &link).expect("a link");
    let address = SqliteAddress { path: link, ..factory.address() };
    let config = SqliteBrokerConfig { address, ..factory.config(&Setup::new(&["q"], "linked")) };
    let broker = SqliteBroker::new(config, Arc::new(SystemClock)).expect("a broker");
    let mut linked = Driver::connected(Box::new(broker));
    factory.publish("q", "second", 0);
    // The first one is held by somebody who lives.
    assert_eq!(linked.receive(1), ["second"]);
    assert_eq!(linked.broker.counters().reclaimed, 0);
    straight.settle_all(Settlement::Ack);
    linked.settle_all(Settlement::Ack);
    assert_eq!(factory.number("SELECT count(*) FROM messages"), 0);
    straight.stop();
    linked.stop();
    let sides = std::fs::read_dir(&factory.folder.0).expect("a folder").filter_map(|entry| entry.ok());
    let bells: Vec<_> = sides.filter(|entry| entry.file_name().to_string_lossy().ends_with("-bell")).collect();
    assert_eq!(bells.len(), 1, "{bells:?}");
}

#[test]
fn a_newer_version_that_takes_the_file_over_ends_those_who_have_it_open() {
    let mut factory = SqliteFactory::new(true);
    factory.publish("q", "held", 0);
    let mut driver = Driver::connected(factory.broker(&Setup::new(&["q"], "one")));
    assert_eq!(driver.receive(1), ["held"]);
    let known = factory.number("PRAGMA user_version");
    factory.other().execute_batch(&format!("PRAGMA user_version = {}", known + 1)).expect("taken over");
    let complaint = format!("newer pyworker (schema {}, this one knows {known})", known + 1);
    let refusal = factory.client().publish([("q", 0, b"new".as_slice())]).expect_err("refused");
    assert_eq!(refusal.kind(), ErrorKind::Config);
    assert!(refusal.to_string().contains(&complaint), "{refusal}");
    driver.broker.settle(&[(driver.tags()[0], Settlement::Ack)]);
    driver.until("the end", |driver| !driver.disconnects.is_empty());
    let (error, retry_in_s) = &driver.disconnects[0];
    assert!(error.to_string().contains(&complaint), "{error}");
    assert_eq!(*retry_in_s, None);
    driver.stop();
    // Nothing was written: the message is there for the one who knows the tables.
    assert_eq!(factory.other().query_row("SELECT count(*) FROM held", [], |row| row.get(0)), Ok(1));
    assert_eq!(factory.other().query_row("SELECT count(*) FROM messages", [], |row| row.get(0)), Ok(1));
}
