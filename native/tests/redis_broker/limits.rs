//! Full servers, wrong passwords, forgotten scripts, huge and unreadable messages, missing rights.

use std::time::Duration;

use pyworker_native::broker::Settlement;
use pyworker_native::broker::redis::RedisBroker;
use pyworker_native::error::ErrorKind;
use pyworker_native::wire::resp::Frame;

use super::{RedisFactory, make};
use crate::scenarios::{BrokerFactory, Setup};
use crate::support::driver::Driver;
use crate::support::message::envelope;
use crate::support::redis_server::RedisServer;

fn setup() -> Setup {
    Setup::new(&["q"], "one")
}

#[test]
fn a_full_server_is_emptied() {
    let mut factory = RedisFactory::new("");
    for nth in 0..300 {
        factory.publish("q", &format!("m{nth}"), 0);
    }
    factory.client().ok(&[b"CONFIG", b"SET", b"maxmemory", b"1"]);
    let refused = factory.client().run(&[b"LPUSH", b"q", b"x"]).unwrap();
    assert!(matches!(refused, Frame::Error(line) if line.starts_with("OOM")));
    let mut driver = Driver::connected(factory.broker(&setup()));
    driver.receive(300);
    let tags = driver.tags();
    driver.settle(&[(tags[0], Settlement::Requeue), (tags[1], Settlement::Park { until_s: 4e9 })]);
    driver.settle(&tags[1..].iter().map(|tag| (*tag, Settlement::Ack)).collect::<Vec<_>>());
    assert_eq!(driver.receive(1), ["m0"]);
    driver.settle_all(Settlement::Ack);
    assert_eq!((factory.held(), factory.waiting("q")), (0, 0));
    assert!(driver.disconnects.is_empty());
    driver.stop();
}

#[test]
fn a_wrong_password_is_reported_and_tried_again() {
    let server = RedisServer::start(&["--requirepass", "right"]);
    let factory = RedisFactory { server, prefix: String::new() };
    for password in [None, Some("wrong")] {
        let mut config = factory.config(&setup());
        config.address.password = password.map(str::to_owned);
        let mut driver = Driver::start(make(config));
        driver.until("the refusal", |driver| !driver.disconnects.is_empty());
        assert_eq!(driver.disconnects[0].0.kind(), ErrorKind::Authentication, "{:?}", driver.disconnects);
        assert_eq!(driver.disconnects[0].1, Some(0.02));
    }
    let mut config = factory.config(&setup());
    config.address.password = Some("right".into());
    Driver::connected(make(config)).stop();
}

#[test]
fn a_foreign_key_in_the_way_neither_loses_nor_doubles_messages() {
    let mut factory = RedisFactory::new("");
    factory.publish("q", "m0", 0);
    factory.client().ok(&[b"SET", b"unacked_index", b"not a sorted set"]);
    let mut driver = Driver::connected(factory.broker(&setup()));
    driver.broker.set_demand(1);
    driver.until("several attempts", |driver| driver.disconnects.len() >= 3);
    assert_eq!(driver.disconnects[0].0.kind(), ErrorKind::ServerRefused);
    assert!(driver.disconnects[0].0.message().contains("WRONGTYPE"), "{:?}", driver.disconnects[0]);
    assert_eq!(factory.waiting("q"), 1);
    factory.client().ok(&[b"DEL", b"unacked_index"]);
    driver.until("the message", |driver| driver.delivered.len() == 1);
    driver.settle_all(Settlement::Ack);
    assert_eq!(factory.waiting("q"), 0);
    driver.stop();
}

#[test]
fn forgotten_scripts_are_loaded_again() {
    let mut factory = RedisFactory::new("");
    factory.publish("q", "m0", 0);
    let mut driver = Driver::connected(factory.broker(&setup()));
    factory.client().ok(&[b"SCRIPT", b"FLUSH"]);
    assert_eq!(driver.receive(1), ["m0"]);
    factory.client().ok(&[b"SCRIPT", b"FLUSH"]);
    driver.settle_all(Settlement::Requeue);
    assert_eq!(factory.waiting("q"), 1);
    assert!(driver.disconnects.is_empty());
    driver.stop();
}

#[test]
fn a_batch_is_bounded_by_bytes() {
    let mut factory = RedisFactory::new("");
    let size = 400 << 10;
    for nth in 0..5 {
        let mut message = envelope(&format!("m{nth}"), 0);
        message.splice(1..1, format!(r#""padding": "{}", "#, "x".repeat(size)).into_bytes());
        factory.client().ok(&[b"LPUSH".as_slice(), b"q", &message]);
    }
    let mut huge = envelope("huge", 0);
    huge.splice(1..1, format!(r#""padding": "{}", "#, "x".repeat(3 << 20)).into_bytes());
    factory.client().ok(&[b"LPUSH".as_slice(), b"q", &huge]);
    let mut driver = Driver::connected(factory.broker(&setup()));
    driver.broker.set_demand(6);
    driver.until("the first batch", |driver| !driver.delivered.is_empty());
    assert_eq!(driver.ids(), ["m0", "m1"]);
    driver.broker.set_demand(4);
    driver.until("the rest", |driver| driver.delivered.len() == 6);
    assert_eq!(driver.ids()[2..], ["m2", "m3", "m4", "huge"]);
    driver.stop();
}

#[test]
fn an_unreadable_message_is_kept_with_its_bytes() {
    let mut factory = RedisFactory::new("");
    for bytes in [b"not json".as_slice(), b"\"quoted \\\" text\"", b"{\"no\": \"envelope\"}", b"\xff\xfe\x00", b""] {
        factory.client().ok(&[b"LPUSH".as_slice(), b"q", bytes]);
    }
    factory.publish("q", "good", 0);
    let mut driver = Driver::connected(factory.broker(&setup()));
    driver.receive(6);
    let raw: Vec<_> =
        driver.delivered.iter().filter_map(|incoming| incoming.content.as_ref().err()).map(|bad| &bad.raw).collect();
    assert_eq!(raw[0], b"not json");
    assert_eq!(raw[3], b"\xff\xfe\x00");
    assert_eq!(raw.len(), 5);
    // Handed back, they are what they were.
    driver.settle_all(Settlement::Requeue);
    let mut client = factory.client();
    let items = client.ok(&[b"LRANGE", b"q", b"0", b"-1"]).into_array().unwrap();
    assert_eq!(items[5].as_bytes().unwrap(), b"not json");
    assert_eq!(items[2].as_bytes().unwrap(), b"\xff\xfe\x00");
    driver.stop();
}

#[test]
fn messages_are_not_changed_by_registering_and_returning() {
    let mut factory = RedisFactory::new("");
    let original = envelope("m0", 0);
    factory.publish("q", "m0", 0);
    let mut driver = Driver::connected(factory.broker(&setup()));
    driver.receive(1);
    driver.settle_all(Settlement::Release);
    let returned = factory.client().ok(&[b"LINDEX", b"q", b"0"]).into_bytes().unwrap();
    assert_eq!(String::from_utf8(returned).unwrap(), String::from_utf8(original).unwrap());
    driver.stop();
}

#[test]
fn without_tracking_the_lists_are_polled() {
    let mut factory = RedisFactory::new("");
    // Before Redis 7 single commands of a kind can be allowed, not forbidden.
    let rights: [&[u8]; 10] = [
        b"ACL",
        b"SETUSER",
        b"limited",
        b"on",
        b">secret",
        b"~*",
        b"+@all",
        b"-client",
        b"+client|id",
        b"+client|setname",
    ];
    factory.client().ok(&rights);
    let mut config = factory.config(&setup());
    config.address.username = Some("limited".into());
    config.address.password = Some("secret".into());
    let mut driver = Driver::connected(make(config));
    driver.broker.set_demand(5);
    driver.linger(Duration::from_millis(50));
    factory.publish("q", "m0", 0);
    driver.until("the message", |driver| driver.delivered.len() == 1);
    assert!(driver.disconnects.is_empty());
    assert_eq!(driver.complaints.len(), 1);
    driver.stop();
}

#[test]
fn without_resp3_the_lists_are_polled() {
    let server = RedisServer::start(&["--rename-command", "HELLO", "", "--requirepass", "secret"]);
    let factory = RedisFactory { server, prefix: String::new() };
    let mut config = factory.config(&setup());
    config.address.password = Some("secret".into());
    config.address.database = 3;
    config.address.client_name = Some("tester".into());
    let mut driver = Driver::connected(make(config));
    driver.broker.set_demand(5);
    driver.linger(Duration::from_millis(50));
    let mut client = factory.client();
    client.ok(&[b"AUTH", b"secret"]);
    client.ok(&[b"SELECT", b"3"]);
    client.ok(&[b"LPUSH".as_slice(), b"q", &envelope("m1", 0)]);
    driver.until("the message", |driver| driver.delivered.len() == 1);
    assert!(client.ok(&[b"CLIENT", b"LIST"]).as_str().unwrap().contains("name=tester"));
    assert_eq!(driver.complaints.len(), 1);
    driver.settle_all(Settlement::Ack);
    driver.stop();
}

#[test]
fn released_messages_are_not_counted() {
    let mut factory = RedisFactory::new("");
    factory.publish("q", "m0", 0);
    let mut driver = Driver::connected(factory.broker(&setup()));
    for round in 1..=3 {
        driver.receive(1);
        assert_eq!(driver.delivered[round - 1].deliveries, 0);
        driver.settle(&[(driver.tags()[round - 1], Settlement::Release)]);
    }
    assert_eq!(factory.client().integer(&[b"EXISTS", b"pyworker:deliveries"]), 0);
    driver.stop();
}

#[test]
fn a_silent_server_is_given_up() {
    let factory = RedisFactory::new("");
    let mut config = factory.config(&setup());
    config.address.socket_timeout_s = Some(0.2);
    let mut driver = Driver::connected(make(config));
    driver.broker.set_demand(1);
    let process = factory.server.process_id().to_string();
    let signal = |name: &str| std::process::Command::new("kill").args([name, &process]).status().unwrap();
    signal("-STOP");
    driver.broker.set_queue_active(0, false);
    driver.broker.set_queue_active(0, true);
    driver.until("the timeout", |driver| !driver.disconnects.is_empty());
    assert_eq!(driver.disconnects[0].0.kind(), ErrorKind::Timeout);
    signal("-CONT");
    driver.until("back", |driver| driver.connects == 2);
    driver.stop();
}

#[test]
fn nothing_is_sent_while_idle() {
    let mut factory = RedisFactory::new("");
    let mut driver = Driver::connected(factory.broker(&setup()));
    driver.broker.set_demand(5);
    driver.linger(Duration::from_millis(100));
    let before = driver.broker.counters().round_trips;
    driver.linger(Duration::from_millis(500));
    assert_eq!(driver.broker.counters().round_trips, before);
    driver.stop();
}

#[test]
fn a_flushed_database_wakes_and_loses_leases() {
    let mut factory = RedisFactory::new("");
    factory.publish("q", "m0", 0);
    let config = Setup { visibility_timeout_s: 1.0, ..setup() };
    let mut driver = Driver::connected(factory.broker(&config));
    driver.receive(1);
    factory.wipe();
    driver.until("the loss", |driver| driver.lost.len() == 1);
    factory.publish("q", "m1", 0);
    assert_eq!(driver.receive(1), ["m1"]);
    driver.stop();
}

#[test]
fn an_answer_that_never_came_loses_nothing() {
    let mut factory = RedisFactory::new("");
    for nth in 0..20 {
        factory.publish("q", &format!("m{nth}"), 0);
    }
    let mut driver = Driver::connected(factory.broker(&setup()));
    // The fetch is written, then the server closes the connection before the answer is read.
    driver.broker.set_demand(10);
    driver.turn(Duration::ZERO);
    factory.client().ok(&[b"CLIENT", b"KILL", b"TYPE", b"normal", b"SKIPME", b"yes"]);
    driver.until("back", |driver| driver.connects == 2);
    driver.broker.set_demand(20 - driver.delivered.len() as u32);
    driver.until("all", |driver| driver.delivered.len() == 20);
    let mut ids = driver.ids();
    ids.sort_by_key(|id| id[1..].parse::<u32>().unwrap());
    assert_eq!(ids, (0..20).map(|nth| format!("m{nth}")).collect::<Vec<_>>());
    assert_eq!((factory.held(), factory.waiting("q")), (20, 0));
    driver.stop();
}

#[test]
fn connections_that_break_at_random_lose_and_repeat_nothing() {
    let mut factory = RedisFactory::new("");
    let mut client = factory.client();
    let count = 4000;
    for nth in 0..count {
        client.ok(&[b"LPUSH".as_slice(), b"q", &envelope(&format!("m{nth}"), 0)]);
    }
    let mut driver = Driver::connected(factory.broker(&setup()));
    let (mut seen, mut turns, mut random) = (0, 0u32, 12345u32);
    while seen < count {
        driver.broker.set_demand(64);
        driver.turn(Duration::from_millis(20));
        let settlements: Vec<_> =
            driver.delivered[seen..].iter().map(|incoming| (incoming.tag, Settlement::Ack)).collect();
        seen = driver.delivered.len();
        driver.broker.settle(&settlements);
        turns += 1;
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if random >> 28 == 0 {
            client.ok(&[b"CLIENT", b"KILL", b"TYPE", b"normal", b"SKIPME", b"yes"]);
        }
        assert!(turns < 100_000, "no progress: {seen} of {count}");
    }
    driver.until("settled", |driver| driver.broker.pending_settlements() == 0);
    assert!(driver.connects > 2, "{} connections", driver.connects);
    let mut ids = driver.ids();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
    assert_eq!(driver.delivered.len(), count);
    assert_eq!((factory.held(), factory.waiting("q")), (0, 0));
    assert!(driver.lost.is_empty());
    driver.stop();
}

#[test]
fn more_leases_than_one_sweep_sees_come_back() {
    let mut factory = RedisFactory::new("");
    for nth in 0..700 {
        factory.publish("q", &format!("m{nth}"), 0);
    }
    let mut gone = Driver::connected(factory.broker(&Setup { owner: "gone".into(), ..setup() }));
    gone.receive(700);
    drop(gone);
    // Nobody knows this node, and its leases ran out.
    let mut client = factory.client();
    client.ok(&[b"DEL", b"pyworker:nodes"]);
    for tag in client.strings(&[b"ZRANGE", b"unacked_index", b"0", b"-1"]) {
        client.ok(&[b"ZADD", b"unacked_index", b"5", tag.as_bytes()]);
    }
    let mut heir = Driver::connected(factory.broker(&setup()));
    heir.until("the sweeps", |heir| heir.broker.counters().reclaimed == 700);
    heir.receive(700);
    assert_eq!(factory.held(), 700);
    heir.stop();
}

#[test]
fn a_node_that_stops_leaves_the_list_of_nodes() {
    let mut factory = RedisFactory::new("");
    let mut driver = Driver::connected(factory.broker(&setup()));
    driver.until("signed", |driver| driver.broker.start_deadline_ns() > 0);
    assert_eq!(factory.client().integer(&[b"ZCARD", b"pyworker:nodes"]), 1);
    assert!(factory.client().integer(&[b"TTL", b"pyworker:nodes"]) > 0);
    driver.stop();
    let mut watcher = factory.client();
    crate::support::redis_server::wait_for("signed off", || watcher.integer(&[b"ZCARD", b"pyworker:nodes"]) == 0);
}

#[test]
fn a_broker_cannot_be_started_twice() {
    let factory = RedisFactory::new("");
    let poll = mio::Poll::new().unwrap();
    let tokens = pyworker_native::broker::TokenRange { first: 1, count: 8 };
    let mut broker =
        RedisBroker::new(factory.config(&setup()), std::sync::Arc::new(pyworker_native::clock::SystemClock));
    let broker: &mut dyn pyworker_native::broker::Broker = &mut broker;
    broker.start(poll.registry(), tokens, 1).unwrap();
    assert_eq!(broker.start(poll.registry(), tokens, 1).unwrap_err().kind(), ErrorKind::Internal);
    broker.stop(poll.registry());
    broker.stop(poll.registry());
}

#[test]
fn entries_that_nobody_can_read_do_not_hide_what_comes_after_them() {
    let mut factory = RedisFactory::new("");
    let mut client = factory.client();
    for nth in 0..450 {
        let (tag, score) = (format!("stock-{nth}"), format!("{}", 1 + nth));
        client.ok(&[b"HSET", b"unacked", tag.as_bytes(), b"no entry at all"]);
        client.ok(&[b"ZADD", b"unacked_index", score.as_bytes(), tag.as_bytes()]);
    }
    let entry = [b"[".as_slice(), &envelope("m0", 0), b", \"\", \"q\"]"].concat();
    client.ok(&[b"HSET", b"unacked", b"stock-last", &entry]);
    client.ok(&[b"ZADD", b"unacked_index", b"1000", b"stock-last"]);
    let mut driver = Driver::connected(factory.broker(&setup()));
    assert_eq!(driver.receive(1), ["m0"]);
    driver.settle_all(Settlement::Ack);
    assert_eq!(factory.held(), 450);
    driver.stop();
}

#[test]
fn what_comes_back_says_so_as_kombus_messages_do() {
    let mut factory = RedisFactory::new("");
    let bodies: [(&[u8], &[u8]); 4] = [
        (
            br#"{"body": "e30=", "headers": {"id": "a", "task": "t"}, "properties": {"delivery_info": {"exchange": ""}}}"#,
            br#"{"body": "e30=", "headers": {"redelivered": true, "id": "a", "task": "t"}, "properties": {"delivery_info": {"redelivered": true, "exchange": ""}}}"#,
        ),
        (
            br#"{"headers":{},"properties":{"delivery_info":{}},"body":"\"headers\": {"}"#,
            br#"{"headers":{"redelivered": true},"properties":{"delivery_info":{"redelivered": true}},"body":"\"headers\": {"}"#,
        ),
        (br#"{"headers": {"redelivered": true}}"#, br#"{"headers": {"redelivered": true}}"#),
        (b"no json", b"no json"),
    ];
    let mut driver = Driver::connected(factory.broker(&setup()));
    for (before, after) in bodies {
        // Twice: a mark is not repeated, and the count goes on.
        factory.client().ok(&[b"LPUSH", b"q", before]);
        for round in 0..2 {
            driver.delivered.clear();
            driver.receive(1);
            assert_eq!(driver.delivered[0].deliveries, round);
            driver.settle_all(Settlement::Requeue);
            let list = factory.client().strings(&[b"LRANGE", b"q", b"0", b"-1"]);
            assert_eq!(list, [String::from_utf8_lossy(after).into_owned()]);
        }
        driver.delivered.clear();
        driver.receive(1);
        assert_eq!(driver.delivered[0].deliveries, 2);
        driver.settle_all(Settlement::Ack);
    }
    driver.stop();
}
