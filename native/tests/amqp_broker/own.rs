//! What RabbitMQ promises in its own way.

use std::time::Duration;

use pyworker_native::broker::Settlement;
use pyworker_native::clock::{Clock, SystemClock};
use pyworker_native::config::amqp::Declaration;

use super::RabbitmqFactory;
use crate::scenarios::{BrokerFactory, Setup};
use crate::support::driver::Driver;
use crate::support::redis_server::wait_for;

type Scenario = fn(&mut RabbitmqFactory);

pub fn exercise(factory: &mut RabbitmqFactory) {
    let scenarios: &[(&str, Scenario)] = &[
        ("settled messages are gone", settled_messages_are_gone),
        ("returned messages are first again", returned_messages_are_first_again),
        ("the prefetch follows the demand", the_prefetch_follows_the_demand),
        ("what is handed back goes to others", what_is_handed_back_goes_to_others),
        ("a near time is waited for here", a_near_time_is_waited_for_here),
        ("a far time is waited for at the server", a_far_time_is_waited_for_at_the_server),
        ("large and odd messages come whole", large_messages_come_whole),
    ];
    for (name, scenario) in scenarios {
        println!("{name}");
        factory.wipe();
        scenario(factory);
    }
}

fn publish_many(factory: &mut RabbitmqFactory, queue: &str, prefix: &str, count: usize) -> Vec<String> {
    let ids: Vec<_> = (0..count).map(|nth| format!("{prefix}{nth}")).collect();
    ids.iter().for_each(|id| factory.publish(queue, id, 0));
    ids
}

fn settled_messages_are_gone(factory: &mut RabbitmqFactory) {
    publish_many(factory, "q", "m", 1200);
    let mut driver = Driver::connected(factory.broker(&Setup::new(&["q"], "one")));
    driver.receive(1200);
    // Out of order and in pieces, so that both kinds of acks are used.
    let tags = driver.tags();
    for parity in [1, 0] {
        let settlements: Vec<_> = tags
            .iter()
            .enumerate()
            .filter(|(nth, _)| nth % 2 == parity)
            .map(|(nth, tag)| (*tag, if nth % 3 == 0 { Settlement::Reject } else { Settlement::Ack }))
            .collect();
        driver.settle(&settlements);
    }
    assert_eq!(driver.broker.counters().settled, 1200);
    // A quorum queue applies them a little later than the channel has taken them, and forgets those that it has not
    // applied when the channel closes.
    driver.until("the queue is empty", |_| factory.waiting("q") == 0);
    driver.stop();
    assert_eq!(factory.waiting("q"), 0);
}

fn returned_messages_are_first_again(factory: &mut RabbitmqFactory) {
    publish_many(factory, "q", "m", 5);
    let mut driver = Driver::connected(factory.broker(&Setup::new(&["q"], "one")));
    driver.receive(3);
    let tags = driver.tags();
    driver.settle(&[(tags[1], Settlement::Requeue), (tags[0], Settlement::Requeue), (tags[2], Settlement::Requeue)]);
    let mut ids = driver.receive(5);
    assert_eq!(ids.len(), 5);
    if !factory.arguments.contains("quorum") {
        assert_eq!(ids, ["m0", "m1", "m2", "m3", "m4"]);
    }
    ids.sort_unstable();
    assert_eq!(ids, ["m0", "m1", "m2", "m3", "m4"]);
    driver.stop();
}

fn the_prefetch_follows_the_demand(factory: &mut RabbitmqFactory) {
    publish_many(factory, "q", "m", 600);
    let mut driver = Driver::connected(factory.broker(&Setup::new(&["q"], "one")));
    // Nothing beyond the demand leaves the queue at first; a consumer that takes over from one whose messages are
    // all unacknowledged may bring as many as that one again.
    for (count, least_waiting) in [(4, 596), (6, 600 - 10 - 4), (20, 600 - 30 - 10 - 4)] {
        driver.receive(count);
        driver.linger(Duration::from_millis(30));
        let waiting = factory.waiting("q");
        assert!(waiting >= least_waiting, "{waiting} wait, at least {least_waiting} should");
    }
    let ids = driver.receive(500);
    assert_eq!(ids.len(), 500);
    assert_eq!(driver.ids(), (0..530).map(|nth| format!("m{nth}")).collect::<Vec<_>>());
    driver.stop();
    // A quorum queue takes them back a little after the connection is gone.
    wait_for("everything is back", || factory.waiting("q") == 600);
}

fn what_is_handed_back_goes_to_others(factory: &mut RabbitmqFactory) {
    publish_many(factory, "q", "m", 8);
    let mut stopping = Driver::connected(factory.broker(&Setup::new(&["q"], "stopping")));
    stopping.receive(8);
    let tags = stopping.tags();
    let back: Vec<_> = tags[2..].iter().map(|tag| (*tag, Settlement::Release)).collect();
    stopping.settle(&back);
    let mut other = Driver::connected(factory.broker(&Setup::new(&["q"], "other")));
    other.receive(6);
    stopping.linger(Duration::from_millis(50));
    assert_eq!(stopping.delivered.len(), 8);
    stopping.settle(&tags[..2].iter().map(|tag| (*tag, Settlement::Ack)).collect::<Vec<_>>());
    stopping.stop();
    other.settle_all(Settlement::Ack);
    other.stop();
    assert_eq!(factory.waiting("q"), 0);
}

fn a_near_time_is_waited_for_here(factory: &mut RabbitmqFactory) {
    factory.publish_scheduled("q", "later", "2096-10-02T07:06:40+00:00");
    factory.publish("q", "now", 0);
    let mut driver = Driver::connected(factory.broker(&Setup::new(&["q"], "one")));
    driver.receive(2);
    let tags = driver.tags();
    driver.broker.settle(&[(tags[0], Settlement::Park { until_s: SystemClock.wall_s() + 5.0 })]);
    driver.linger(Duration::from_millis(30));
    driver.broker.recall(&[tags[0]]);
    driver.until("recalled", |driver| driver.delivered.len() == 3);
    assert_eq!((driver.ids()[2].as_str(), driver.tags()[2]), ("later", tags[0]));
    driver.settle(&[(tags[0], Settlement::Ack), (tags[1], Settlement::Ack)]);
    driver.stop();
    assert_eq!(factory.waiting("q"), 0);
}

fn a_far_time_is_waited_for_at_the_server(factory: &mut RabbitmqFactory) {
    factory.publish_scheduled("q", "later", "2096-10-02T07:06:40+00:00");
    let mut driver = Driver::connected(factory.broker(&Setup::new(&["q"], "one")));
    driver.receive(1);
    let tag = driver.tags()[0];
    // The levels are binary: 32 s wait in level 5 alone.
    driver.broker.settle(&[(tag, Settlement::Park { until_s: SystemClock.wall_s() + 31.5 })]);
    driver.until("parked", |driver| driver.returned == [tag]);
    driver.settle(&[(tag, Settlement::Release)]);
    assert_eq!(driver.complaints, Vec::<String>::new());
    driver.stop();
    assert_eq!((factory.waiting("q"), factory.waiting("celery_delayed_5")), (0, 1));
    factory.queues.extend((0..28).map(|level| format!("celery_delayed_{level}")));
}

fn large_messages_come_whole(factory: &mut RabbitmqFactory) {
    let text = "ä\"\\\n\u{1F40D}".repeat(100_000);
    factory.declare("q");
    factory.client.publish_body("q", text.as_bytes());
    factory.client.publish_body("q", b"");
    let mut driver = Driver::connected(factory.broker(&Setup::new(&["q"], "one")));
    driver.receive(2);
    let bodies: Vec<&[u8]> =
        driver.delivered.iter().map(|incoming| incoming.content.as_ref().unwrap().body()).collect();
    assert_eq!(bodies, [text.as_bytes(), b""]);
    let headers = String::from_utf8(driver.delivered[0].content.as_ref().unwrap().headers().to_vec()).unwrap();
    // RabbitMQ 4 sorts them.
    for pair in [r#""big": 9007199254740993"#, r#""empty": []"#, r#""none": {}"#, r#""float": 0.5"#] {
        assert!(headers.contains(pair), "{headers}");
    }
    driver.settle_all(Settlement::Ack);
    driver.stop();
}

/// All ten priorities, strictly.
pub fn priorities(factory: &mut RabbitmqFactory) {
    println!("priorities are strict");
    factory.wipe();
    for nth in 0..100_u8 {
        factory.publish("q", &format!("{}-{nth}", nth % 10), nth % 10);
    }
    let mut driver = Driver::connected(factory.broker(&Setup::new(&["q"], "one")));
    // In small bites, so that the prefetch moves meanwhile.
    let ids: Vec<String> = (0..10).flat_map(|_| driver.receive(10)).collect();
    let expected = (0..10).flat_map(|priority| (0..10).map(move |nth| format!("{priority}-{}", nth * 10 + priority)));
    assert_eq!(ids, expected.collect::<Vec<_>>());
    driver.stop();
}

/// Quorum queues count how often a message was handed out.
pub fn counts(factory: &mut RabbitmqFactory) {
    println!("returns are counted");
    factory.wipe();
    publish_many(factory, "q", "m", 1);
    let mut driver = Driver::connected(factory.broker(&Setup::new(&["q"], "one")));
    driver.receive(1);
    for round in 1..=3 {
        let tag = *driver.tags().last().unwrap();
        driver.settle(&[(tag, Settlement::Requeue)]);
        driver.receive(1);
        assert_eq!(driver.delivered.last().unwrap().deliveries, round);
    }
    driver.stop();
}

/// The levels as upstream declares them, and what leads back.
pub fn delay_levels(queues: &[String]) -> Vec<Declaration> {
    let exchange = |name: &str| Declaration::Exchange {
        name: name.into(),
        kind: "topic".into(),
        passive: false,
        durable: true,
        auto_delete: false,
        arguments: Vec::new(),
    };
    let next = |level: u32| match level {
        0 => "celery_delayed_delivery".to_owned(),
        level => format!("celery_delayed_{}", level - 1),
    };
    let mut declarations = vec![exchange("celery_delayed_delivery")];
    for level in 0..28_u32 {
        let name = format!("celery_delayed_{level}");
        let words = "*.".repeat(27 - level as usize);
        let arguments = format!(
            r#"{{"x-queue-type": "classic", "x-overflow": "reject-publish", "x-message-ttl": {},
            "x-dead-letter-exchange": "{}"}}"#,
            (1_u64 << level) * 1000,
            next(level)
        );
        declarations.push(exchange(&name));
        declarations.push(crate::support::rabbitmq_client::durable(&name, &arguments));
        declarations.push(Declaration::QueueBinding {
            queue: name.clone(),
            exchange: name.clone(),
            routing_key: format!("{words}1.#"),
            arguments: Vec::new(),
        });
        declarations.push(Declaration::ExchangeBinding {
            destination: next(level),
            source: name,
            routing_key: format!("{words}0.#"),
            arguments: Vec::new(),
        });
    }
    for queue in queues {
        declarations.push(Declaration::QueueBinding {
            queue: queue.clone(),
            exchange: "celery_delayed_delivery".into(),
            routing_key: format!("#.pyworker-{queue}"),
            arguments: Vec::new(),
        });
    }
    declarations
}
