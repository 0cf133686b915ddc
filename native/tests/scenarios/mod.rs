//! What every broker promises, each promise one function.

use std::time::Duration;

use pyworker_native::broker::{Broker, Settlement};

use crate::support::driver::Driver;

/// How a broker under test is configured.
#[derive(Debug, Clone)]
pub struct Setup {
    pub queues: Vec<String>,
    pub owner: String,
    pub visibility_timeout_s: f64,
    pub round_robin: bool,
}

impl Setup {
    pub fn new(queues: &[&str], owner: &str) -> Self {
        let queues = queues.iter().map(|queue| (*queue).to_owned()).collect();
        Self { queues, owner: owner.to_owned(), visibility_timeout_s: 60.0, round_robin: true }
    }
}

/// Makes brokers on one server, and arranges what happens around them.
pub trait BrokerFactory {
    /// A broker, not started.
    fn broker(&mut self, setup: &Setup) -> Box<dyn Broker>;
    /// Publishes as a stock client does.
    fn publish(&mut self, queue: &str, id: &str, priority: u8);
    /// Messages that wait in a queue, whatever their priority.
    fn waiting(&mut self, queue: &str) -> usize;
    /// Messages that are handed out and not settled.
    fn held(&mut self) -> usize;
    /// Takes the server away, keeping what it holds.
    fn take_server_away(&mut self);
    /// Brings it back.
    fn bring_server_back(&mut self);
    /// Lets a node that does not run any more count as dead.
    fn bury(&mut self, owner: &str);
    /// Takes everything that is handed out away from whoever holds it.
    fn steal_leases(&mut self);
    /// Forgets everything, for the next scenario.
    fn wipe(&mut self);
}

type Scenario = fn(&mut dyn BrokerFactory);

/// Runs every scenario.
pub fn exercise(factory: &mut dyn BrokerFactory) {
    exercise_but(factory, &[]);
}

/// Runs every scenario but those whose promise a broker does not make, which has its own in their place.
pub fn exercise_but(factory: &mut dyn BrokerFactory, excepted: &[&str]) {
    let scenarios: &[(&str, Scenario)] = &[
        ("messages come in the order published", messages_come_in_order),
        ("urgent messages come first", urgent_messages_come_first),
        ("queues take turns", queues_take_turns),
        ("the configured order is kept", the_configured_order_is_kept),
        ("no more than the demand comes", no_more_than_the_demand_comes),
        ("a waiting node is told", a_waiting_node_is_told),
        ("settled messages are gone", settled_messages_are_gone),
        ("a returned message is first again", a_returned_message_is_first_again),
        ("returns are counted", returns_are_counted),
        ("parked messages are recalled", parked_messages_are_recalled),
        ("leases are renewed", leases_are_renewed),
        ("a lost lease is reported", a_lost_lease_is_reported),
        ("the messages of the dead return", the_messages_of_the_dead_return),
        ("a node that slept learns what it lost", a_node_that_slept_learns_what_it_lost),
        ("work goes on after a restart", work_goes_on_after_a_restart),
        ("settlements survive a restart", settlements_survive_a_restart),
        ("inactive queues are left alone", inactive_queues_are_left_alone),
        ("many queues are read", many_queues_are_read),
    ];
    let unknown = excepted.iter().find(|name| scenarios.iter().all(|(known, _)| known != *name));
    assert_eq!(unknown, None, "no such scenario");
    for (name, scenario) in scenarios.iter().filter(|(name, _)| !excepted.contains(name)) {
        println!("{name}");
        factory.wipe();
        scenario(factory);
    }
}

fn publish_many(factory: &mut dyn BrokerFactory, queue: &str, prefix: &str, count: usize) -> Vec<String> {
    let ids: Vec<_> = (0..count).map(|nth| format!("{prefix}{nth}")).collect();
    ids.iter().for_each(|id| factory.publish(queue, id, 0));
    ids
}

fn messages_come_in_order(factory: &mut dyn BrokerFactory) {
    let ids = publish_many(factory, "q", "m", 1700);
    let mut driver = Driver::connected(factory.broker(&Setup::new(&["q"], "one")));
    assert_eq!(driver.receive(1700), ids);
    assert!(driver.delivered.iter().all(|incoming| incoming.deliveries == 0 && incoming.queue == 0));
    assert_eq!(factory.held(), 1700);
    driver.stop();
}

fn urgent_messages_come_first(factory: &mut dyn BrokerFactory) {
    for (id, priority) in [("low", 9), ("mid", 4), ("high", 0), ("high2", 0), ("mid2", 3)] {
        factory.publish("q", id, priority);
    }
    let mut driver = Driver::connected(factory.broker(&Setup::new(&["q"], "one")));
    assert_eq!(driver.receive(1), ["high"]);
    assert_eq!(driver.receive(4), ["high2", "mid", "mid2", "low"]);
    driver.stop();
}

fn queues_take_turns(factory: &mut dyn BrokerFactory) {
    publish_many(factory, "a", "a", 100);
    publish_many(factory, "b", "b", 3);
    publish_many(factory, "c", "c", 100);
    let mut driver = Driver::connected(factory.broker(&Setup::new(&["a", "b", "c"], "one")));
    let ids = driver.receive(20);
    assert_eq!(ids[..9], ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2"]);
    let of_a = ids.iter().filter(|id| id.starts_with('a')).count();
    assert!((8..=9).contains(&of_a), "{ids:?}");
    // Nobody is favoured by where a batch happened to end.
    let singles: Vec<_> = (0..4).flat_map(|_| driver.receive(1)).collect();
    assert_eq!(singles.iter().filter(|id| id.starts_with('a')).count(), 2, "{singles:?}");
    driver.stop();
}

fn the_configured_order_is_kept(factory: &mut dyn BrokerFactory) {
    publish_many(factory, "b", "b", 3);
    publish_many(factory, "a", "a", 3);
    let setup = Setup { round_robin: false, ..Setup::new(&["a", "b"], "one") };
    let mut driver = Driver::connected(factory.broker(&setup));
    assert_eq!(driver.receive(6), ["a0", "a1", "a2", "b0", "b1", "b2"]);
    driver.stop();
}

fn no_more_than_the_demand_comes(factory: &mut dyn BrokerFactory) {
    publish_many(factory, "q", "m", 50);
    let mut driver = Driver::connected(factory.broker(&Setup::new(&["q"], "one")));
    driver.linger(Duration::from_millis(30));
    assert!(driver.delivered.is_empty());
    driver.broker.set_demand(7);
    driver.until("seven", |driver| driver.delivered.len() == 7);
    driver.linger(Duration::from_millis(30));
    assert_eq!(driver.delivered.len(), 7);
    assert_eq!(factory.waiting("q"), 43);
    driver.stop();
}

fn a_waiting_node_is_told(factory: &mut dyn BrokerFactory) {
    let mut driver = Driver::connected(factory.broker(&Setup::new(&["q", "r"], "one")));
    driver.broker.set_demand(10);
    driver.linger(Duration::from_millis(50));
    for (nth, (queue, priority)) in [("q", 0), ("r", 9), ("q", 5), ("r", 0)].into_iter().enumerate() {
        factory.publish(queue, &format!("m{nth}"), priority);
        driver.until("the message", |driver| driver.delivered.len() == nth + 1);
        driver.linger(Duration::from_millis(10));
    }
    assert_eq!(driver.ids(), ["m0", "m1", "m2", "m3"]);
    driver.stop();
}

fn settled_messages_are_gone(factory: &mut dyn BrokerFactory) {
    publish_many(factory, "q", "m", 1200);
    let mut driver = Driver::connected(factory.broker(&Setup::new(&["q"], "one")));
    driver.receive(1200);
    let settlements: Vec<_> = driver
        .tags()
        .into_iter()
        .enumerate()
        .map(|(nth, tag)| (tag, if nth % 2 == 0 { Settlement::Ack } else { Settlement::Reject }))
        .collect();
    driver.settle(&settlements);
    assert_eq!((factory.held(), factory.waiting("q")), (0, 0));
    assert_eq!(driver.broker.counters().settled, 1200);
    assert_eq!(driver.broker.counters().leases_lost, 0);
    driver.stop();
}

fn a_returned_message_is_first_again(factory: &mut dyn BrokerFactory) {
    publish_many(factory, "q", "m", 5);
    factory.publish("q", "late", 9);
    let mut driver = Driver::connected(factory.broker(&Setup::new(&["q"], "one")));
    driver.receive(3);
    let tags = driver.tags();
    driver.settle(&[(tags[1], Settlement::Requeue), (tags[0], Settlement::Requeue), (tags[2], Settlement::Requeue)]);
    assert_eq!((factory.held(), factory.waiting("q")), (0, 6));
    assert_eq!(driver.receive(6), ["m0", "m1", "m2", "m3", "m4", "late"]);
    // A message of low priority returns to its own list.
    driver.settle(&[(driver.tags()[8], Settlement::Requeue)]);
    factory.publish("q", "urgent", 0);
    assert_eq!(driver.receive(2), ["urgent", "late"]);
    driver.stop();
}

fn returns_are_counted(factory: &mut dyn BrokerFactory) {
    publish_many(factory, "q", "m", 2);
    let mut driver = Driver::connected(factory.broker(&Setup::new(&["q"], "one")));
    driver.receive(2);
    for round in 1..=3 {
        let last = driver.delivered.iter().rposition(|incoming| incoming.deliveries == round - 1).unwrap();
        driver.settle(&[(driver.tags()[last], Settlement::Requeue)]);
        driver.receive(1);
        assert_eq!(driver.delivered.last().unwrap().deliveries, round);
    }
    // Settled for good, it leaves no trace in what a later message of the same text would count.
    let tag = driver.delivered.last().unwrap().tag;
    driver.settle(&[(tag, Settlement::Ack)]);
    factory.publish("q", "m1", 0);
    driver.receive(1);
    assert_eq!(driver.delivered.last().unwrap().deliveries, 0);
    driver.stop();
}

fn parked_messages_are_recalled(factory: &mut dyn BrokerFactory) {
    publish_many(factory, "q", "m", 3);
    let mut driver = Driver::connected(factory.broker(&Setup::new(&["q"], "one")));
    driver.receive(3);
    let tags = driver.tags();
    driver.settle(&[(tags[0], Settlement::Park { until_s: 4e9 }), (tags[2], Settlement::Park { until_s: 4e9 })]);
    assert_eq!(factory.held(), 3);
    driver.broker.recall(&[tags[2], tags[0]]);
    driver.until("recalled", |driver| driver.delivered.len() == 5);
    assert_eq!(driver.ids()[3..], ["m2", "m0"]);
    assert_eq!(driver.tags()[3..], [tags[2], tags[0]]);
    driver.settle(&tags.iter().map(|tag| (*tag, Settlement::Ack)).collect::<Vec<_>>());
    assert_eq!(factory.held(), 0);
    driver.stop();
}

fn leases_are_renewed(factory: &mut dyn BrokerFactory) {
    publish_many(factory, "q", "m", 3);
    let setup = Setup { visibility_timeout_s: 1.0, ..Setup::new(&["q"], "one") };
    let mut driver = Driver::connected(factory.broker(&setup));
    driver.receive(3);
    let before_ns = driver.broker.start_deadline_ns();
    let renewals = driver.renewals;
    driver.until("renewed", |driver| driver.renewals >= renewals + 5);
    assert!(driver.broker.start_deadline_ns() > before_ns);
    assert!(driver.lost.is_empty());
    // Longer than the visibility timeout has passed; another node's sweep finds nothing to take.
    let mut other = Driver::connected(factory.broker(&Setup { owner: "two".into(), ..setup }));
    other.broker.set_demand(10);
    other.linger(Duration::from_millis(50));
    assert!(other.delivered.is_empty());
    driver.stop();
    other.stop();
}

fn a_lost_lease_is_reported(factory: &mut dyn BrokerFactory) {
    publish_many(factory, "q", "m", 2);
    let setup = Setup { visibility_timeout_s: 1.0, ..Setup::new(&["q"], "one") };
    let mut driver = Driver::connected(factory.broker(&setup));
    driver.receive(2);
    factory.steal_leases();
    driver.until("the loss", |driver| driver.lost.len() == 2);
    // Settling what is not ours any more is no error and changes nothing.
    driver.settle_all(Settlement::Ack);
    driver.stop();
}

fn the_messages_of_the_dead_return(factory: &mut dyn BrokerFactory) {
    publish_many(factory, "q", "m", 450);
    factory.publish("q", "slow", 9);
    let mut dead = Driver::connected(factory.broker(&Setup::new(&["q"], "de*ad")));
    dead.receive(451);
    drop(dead);
    publish_many(factory, "q", "n", 1);
    factory.bury("de*ad");
    let mut heir = Driver::connected(factory.broker(&Setup::new(&["q"], "heir")));
    heir.until("the reclaim", |heir| heir.broker.counters().reclaimed == 451);
    let ids = heir.receive(452);
    assert_eq!(ids[0], "m0");
    assert_eq!(ids[449], "m449");
    assert_eq!(ids[450], "n0");
    assert_eq!(ids[451], "slow");
    assert_eq!(heir.delivered[0].deliveries, 1);
    assert_eq!(factory.held(), 452);
    heir.stop();
}

fn a_node_that_slept_learns_what_it_lost(factory: &mut dyn BrokerFactory) {
    publish_many(factory, "q", "m", 3);
    let setup = Setup { visibility_timeout_s: 1.0, ..Setup::new(&["q"], "sleeper") };
    let mut sleeper = Driver::connected(factory.broker(&setup));
    sleeper.receive(2);
    factory.bury("sleeper");
    let mut other = Driver::connected(factory.broker(&Setup { owner: "other".into(), ..setup }));
    other.until("the reclaim", |other| other.broker.counters().reclaimed == 2);
    assert_eq!(other.receive(3), ["m0", "m1", "m2"]);
    sleeper.until("the loss", |sleeper| sleeper.lost.len() == 2);
    // Too late: what others have is not touched.
    sleeper.settle_all(Settlement::Ack);
    assert_eq!(factory.held(), 3);
    sleeper.stop();
    other.stop();
}

fn work_goes_on_after_a_restart(factory: &mut dyn BrokerFactory) {
    publish_many(factory, "q", "m", 4);
    let mut driver = Driver::connected(factory.broker(&Setup::new(&["q"], "one")));
    driver.receive(2);
    factory.take_server_away();
    driver.until("noticed", |driver| !driver.disconnects.is_empty());
    assert!(driver.disconnects[0].1.is_some());
    driver.broker.set_demand(2);
    factory.bring_server_back();
    driver.until("back", |driver| driver.connects == 2);
    driver.until("the rest", |driver| driver.delivered.len() == 4);
    assert_eq!(driver.ids(), ["m0", "m1", "m2", "m3"]);
    assert!(driver.lost.is_empty());
    assert_eq!(driver.broker.counters().reconnects, 1);
    driver.settle_all(Settlement::Ack);
    assert_eq!(factory.held(), 0);
    driver.stop();
}

fn settlements_survive_a_restart(factory: &mut dyn BrokerFactory) {
    publish_many(factory, "q", "m", 4);
    let mut driver = Driver::connected(factory.broker(&Setup::new(&["q"], "one")));
    driver.receive(4);
    let tags = driver.tags();
    factory.take_server_away();
    driver.broker.settle(&[(tags[0], Settlement::Ack), (tags[1], Settlement::Requeue)]);
    driver.until("noticed", |driver| !driver.disconnects.is_empty());
    driver.broker.settle(&[(tags[2], Settlement::Ack), (tags[3], Settlement::Park { until_s: 4e9 })]);
    assert_eq!(driver.broker.pending_settlements(), 4);
    factory.bring_server_back();
    driver.until("settled", |driver| driver.broker.pending_settlements() == 0);
    assert_eq!((factory.held(), factory.waiting("q")), (1, 1));
    driver.stop();
}

fn inactive_queues_are_left_alone(factory: &mut dyn BrokerFactory) {
    publish_many(factory, "a", "a", 2);
    publish_many(factory, "b", "b", 2);
    let mut driver = Driver::connected(factory.broker(&Setup::new(&["a", "b"], "one")));
    driver.broker.set_queue_active(0, false);
    driver.broker.set_demand(10);
    driver.until("two", |driver| driver.delivered.len() == 2);
    driver.linger(Duration::from_millis(30));
    assert_eq!(driver.ids(), ["b0", "b1"]);
    driver.broker.set_queue_active(0, true);
    driver.until("four", |driver| driver.delivered.len() == 4);
    driver.stop();
}

fn many_queues_are_read(factory: &mut dyn BrokerFactory) {
    let queues: Vec<String> = (0..300).map(|nth| format!("queue{nth}")).collect();
    let names: Vec<&str> = queues.iter().map(String::as_str).collect();
    for queue in &queues {
        factory.publish(queue, &format!("in-{queue}"), 0);
    }
    let mut driver = Driver::connected(factory.broker(&Setup::new(&names, "one")));
    driver.receive(300);
    let mut queues_seen: Vec<_> = driver.delivered.iter().map(|incoming| incoming.queue).collect();
    queues_seen.sort_unstable();
    queues_seen.dedup();
    assert_eq!(queues_seen.len(), 300);
    driver.stop();
}
