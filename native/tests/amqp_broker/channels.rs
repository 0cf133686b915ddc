//! What happens when the server takes something away.

use pyworker_native::broker::Settlement;
use pyworker_native::config::amqp::AmqpBrokerConfig;
use pyworker_native::error::ErrorKind;

use super::{RabbitmqFactory, make};
use crate::scenarios::{BrokerFactory, Setup};
use crate::support::driver::Driver;

type Scenario = fn(&mut RabbitmqFactory);

pub fn exercise(factory: &mut RabbitmqFactory) {
    let scenarios: &[(&str, Scenario)] = &[
        ("a running message is adopted after a restart", a_running_message_is_adopted_after_a_restart),
        ("a deleted queue is declared again", a_deleted_queue_is_declared_again),
        ("a refused declaration is named", a_refused_declaration_is_named),
        ("a refused password is tried again", a_refused_password_is_tried_again),
        ("the other server of the list is used", the_other_server_is_used),
    ];
    for (name, scenario) in scenarios {
        println!("{name}");
        factory.wipe();
        scenario(factory);
    }
}

fn a_running_message_is_adopted_after_a_restart(factory: &mut RabbitmqFactory) {
    for id in ["runs", "ended", "waits", "later"] {
        factory.publish("q", id, 0);
    }
    let mut driver = Driver::connected(factory.broker(&Setup::new(&["q"], "one")));
    driver.receive(3);
    let tags = driver.tags();
    factory.take_server_away();
    driver.until("noticed", |driver| !driver.disconnects.is_empty());
    assert_eq!(driver.returned, tags);
    // One runs on, one ends while the server is away, one had not started and is dropped.
    driver.broker.settle(&[(tags[1], Settlement::Ack), (tags[2], Settlement::Release)]);
    assert_eq!(driver.broker.pending_settlements(), 0);
    driver.broker.set_demand(5);
    factory.bring_server_back();
    // Long before the announced attempt, a minute later.
    driver.until("back", |driver| driver.connects == 2);
    driver.until("the others", |driver| driver.delivered.len() == 5);
    let mut again: Vec<_> = driver.ids()[3..].to_vec();
    again.sort_unstable();
    assert_eq!(again, ["later", "waits"]);
    assert_eq!(driver.broker.counters().reclaimed, 1);
    assert_eq!(driver.broker.counters().reconnects, 1);
    let ends: Vec<_> = [tags[0], driver.tags()[3], driver.tags()[4]].map(|tag| (tag, Settlement::Ack)).into();
    driver.settle(&ends);
    driver.stop();
    assert_eq!(factory.waiting("q"), 0);
}

fn a_deleted_queue_is_declared_again(factory: &mut RabbitmqFactory) {
    factory.publish("q", "first", 0);
    let mut driver = Driver::connected(factory.broker(&Setup::new(&["q"], "one")));
    driver.receive(1);
    driver.settle_all(Settlement::Ack);
    driver.broker.set_demand(5);
    factory.client.delete("q");
    driver.until("told", |driver| driver.complaints.iter().any(|text| text.contains("cancelled the consumer")));
    driver.until("declared", |_| factory.client.exists("q"));
    factory.publish("q", "second", 0);
    driver.until("the second", |driver| driver.delivered.len() == 2);
    assert!(driver.disconnects.is_empty());
    driver.stop();
}

fn a_refused_declaration_is_named(factory: &mut RabbitmqFactory) {
    factory.publish("q", "first", 0);
    let config = factory.config(&Setup::new(&["q"], "one"));
    let declarations = vec![crate::support::rabbitmq_client::durable("q", r#"{"x-max-length": 5}"#)];
    let mut driver = Driver::start(make(AmqpBrokerConfig { declarations, ..config }));
    driver.until("refused", |driver| !driver.disconnects.is_empty());
    let (error, retry_in_s) = driver.disconnects[0].clone();
    assert_eq!((error.kind(), retry_in_s), (ErrorKind::ServerRefused, None));
    assert!(error.message().contains("declaring queue \"q\": (406) PRECONDITION_FAILED"), "{error}");
    driver.stop();
}

fn a_refused_password_is_tried_again(factory: &mut RabbitmqFactory) {
    for method in ["PLAIN", "AMQPLAIN"] {
        let mut config = factory.config(&Setup::new(&["q"], "one"));
        config.addresses[0].login_method = method.into();
        let mut good = Driver::connected(make(config.clone()));
        good.broker.set_demand(1);
        good.stop();
        config.addresses[0].password = "wrong".into();
        let mut driver = Driver::start(make(config));
        driver.until("refused", |driver| !driver.disconnects.is_empty());
        let (error, retry_in_s) = &driver.disconnects[0];
        assert_eq!((error.kind(), *retry_in_s), (ErrorKind::Authentication, Some(60.0)));
        assert!(error.message().contains("(403) ACCESS_REFUSED"), "{error}");
        driver.stop();
    }
}

fn the_other_server_is_used(factory: &mut RabbitmqFactory) {
    factory.publish("q", "first", 0);
    let mut config = factory.config(&Setup::new(&["q"], "one"));
    let mut nobody = config.addresses[0].clone();
    nobody.port = 1;
    config.addresses.insert(0, nobody);
    let mut driver = Driver::start(make(config));
    driver.until("connected", |driver| driver.connects == 1);
    assert_eq!(driver.disconnects.len(), 1);
    assert_eq!(driver.receive(1), ["first"]);
    driver.stop();
}
