//! The publisher against a real Redis.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod private_redis;

use std::collections::HashSet;

use private_redis::server::RedisServer;
use private_redis::wait_for;
use pyworker_native::error::ErrorKind;
use pyworker_native::publish::{Outgoing, PublisherOptions, RedisPublisher};
use pyworker_native::wire::resp::Frame;

fn options(server: &RedisServer) -> PublisherOptions {
    PublisherOptions {
        address: server.address(),
        global_keyprefix: String::new(),
        separator: "\u{6}\u{16}".into(),
        priority_steps: vec![0, 3, 6, 9],
        max_connections: 3,
    }
}

fn publisher(server: &RedisServer) -> RedisPublisher {
    RedisPublisher::new(options(server)).unwrap()
}

fn to<'a>(queue: &'a str, priority: i64, message: &'a [u8]) -> Outgoing<'a> {
    Outgoing { queue, priority, message }
}

/// A queue's messages in the order in which a worker would take them.
fn messages(server: &RedisServer, key: &str) -> Vec<Vec<u8>> {
    let items = server.client().ask_bytes(&[b"LRANGE", key.as_bytes(), b"0", b"-1"]).into_array().unwrap();
    items.into_iter().rev().map(|item| item.into_bytes().unwrap()).collect()
}

fn connections(server: &RedisServer) -> usize {
    // The one that asks is not counted.
    server.client().ask("CLIENT LIST").as_str().unwrap().lines().count() - 1
}

#[test]
fn messages_arrive_in_order_on_the_list_of_their_priority() {
    let server = RedisServer::start(&[]);
    let publisher =
        RedisPublisher::new(PublisherOptions { global_keyprefix: "app:".into(), ..options(&server) }).unwrap();
    publisher.publish(to("celery", 0, b"one")).unwrap();
    publisher.publish(to("celery", 4, b"urgent \0\xff\r\n")).unwrap();
    publisher.publish(to("celery", 0, b"two")).unwrap();
    assert_eq!(messages(&server, "app:celery"), [b"one", b"two"]);
    assert_eq!(messages(&server, "app:celery\u{6}\u{16}3"), [b"urgent \0\xff\r\n"]);
}

#[test]
fn unix_sockets_and_databases_work() {
    let server = RedisServer::start(&[]);
    let mut options = options(&server);
    options.address.unix_path = Some(server.unix_path());
    options.address.database = 2;
    RedisPublisher::new(options).unwrap().publish(to("celery", 0, b"one")).unwrap();
    let mut client = server.client();
    client.ask("SELECT 2");
    assert_eq!(client.ask("LLEN celery"), Frame::Integer(1));
}

#[test]
fn many_messages_keep_their_order_and_their_lists() {
    let server = RedisServer::start(&[]);
    let publisher = publisher(&server);
    let bodies: Vec<Vec<u8>> =
        (0..5000).map(|number| format!("{number} {}", "x".repeat(number % 700)).into_bytes()).collect();
    // Runs of one list, single messages of another, and neighbours that differ in priority but not in list.
    let place = |number: usize| if number.is_multiple_of(37) { ("other", 9) } else { ("celery", (number % 3) as i64) };
    let outgoing: Vec<_> =
        bodies.iter().enumerate().map(|(number, body)| to(place(number).0, place(number).1, body)).collect();
    publisher.publish_many(&outgoing).unwrap();
    publisher.publish_many(&[]).unwrap();
    let of = |queue: &str| -> Vec<Vec<u8>> {
        (0..bodies.len()).filter(|number| place(*number).0 == queue).map(|number| bodies[number].clone()).collect()
    };
    assert_eq!(messages(&server, "celery"), of("celery"));
    assert_eq!(messages(&server, "other\u{6}\u{16}9"), of("other"));
    assert_eq!(connections(&server), 1);
}

#[test]
fn large_messages_pass() {
    let server = RedisServer::start(&[]);
    let publisher = publisher(&server);
    let large = vec![b'x'; 3 << 20];
    publisher.publish(to("celery", 0, &large)).unwrap();
    publisher.publish_many(&[to("celery", 0, b"small"), to("celery", 0, &large), to("celery", 0, b"end")]).unwrap();
    let sizes: Vec<usize> = messages(&server, "celery").iter().map(Vec::len).collect();
    assert_eq!(sizes, [3 << 20, 5, 3 << 20, 3]);
}

#[test]
fn threads_share_a_bounded_number_of_connections() {
    let server = RedisServer::start(&[]);
    let publisher = publisher(&server);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let publisher = &publisher;
            scope.spawn(move || {
                for number in 0..200 {
                    publisher.publish(to("celery", 0, format!("{thread}-{number}").as_bytes())).unwrap();
                }
            });
        }
    });
    let published = messages(&server, "celery");
    assert_eq!(published.iter().collect::<HashSet<_>>().len(), 1600);
    assert!((1..=3).contains(&connections(&server)), "{}", connections(&server));
    publisher.close();
    wait_for("closed connections", || (connections(&server) == 0).then_some(()));
    publisher.publish(to("celery", 0, b"again")).unwrap();
}

#[test]
fn a_connection_that_the_server_closed_is_replaced() {
    let mut server = RedisServer::start(&[]);
    let publisher = publisher(&server);
    publisher.publish(to("celery", 0, b"one")).unwrap();
    server.client().ask("CLIENT KILL TYPE normal SKIPME yes");
    publisher.publish(to("celery", 0, b"two")).unwrap();
    assert_eq!(messages(&server, "celery"), [b"one", b"two"]);
    server.restart();
    publisher.publish_many(&[to("celery", 0, b"three")]).unwrap();
    assert_eq!(messages(&server, "celery"), [b"three"]);
}

#[test]
fn a_server_that_is_away_is_a_connection_error() {
    let mut server = RedisServer::start(&[]);
    let publisher = publisher(&server);
    publisher.publish(to("celery", 0, b"one")).unwrap();
    server.kill();
    for _ in 0..2 {
        let error = publisher.publish(to("celery", 0, b"two")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    }
    server.restart();
    publisher.publish(to("celery", 0, b"three")).unwrap();
    assert_eq!(messages(&server, "celery"), [b"three"]);
}

#[test]
fn a_publish_that_may_have_happened_is_not_repeated() {
    let server = RedisServer::start(&[]);
    let mut options = options(&server);
    options.address.socket_timeout_s = Some(0.2);
    let publisher = RedisPublisher::new(options).unwrap();
    publisher.publish(to("celery", 0, b"one")).unwrap();
    server.signal(libc::SIGSTOP);
    let error = publisher.publish(to("celery", 0, b"two")).unwrap_err();
    server.signal(libc::SIGCONT);
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.message().contains("may have been published"), "{error}");
    // The server had it in its socket and took it when it went on; a second copy was never sent.
    wait_for("the second message", || (messages(&server, "celery").len() == 2).then_some(()));
    publisher.publish(to("celery", 0, b"three")).unwrap();
    assert_eq!(messages(&server, "celery"), [b"one".as_slice(), b"two", b"three"]);
}

#[test]
fn a_silent_connection_is_checked_after_the_health_check_interval() {
    let server = RedisServer::start(&[]);
    let mut options = options(&server);
    options.address.health_check_interval_s = 0.000_001;
    options.address.connect_timeout_s = 1.0;
    let publisher = RedisPublisher::new(options).unwrap();
    publisher.publish(to("celery", 0, b"one")).unwrap();
    server.signal(libc::SIGSTOP);
    // The ping goes unanswered, so nothing is sent on the connection; the new one cannot be opened either.
    let error = publisher.publish(to("celery", 0, b"two")).unwrap_err();
    server.signal(libc::SIGCONT);
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(!error.message().contains("may have been published"), "{error}");
    publisher.publish(to("celery", 0, b"three")).unwrap();
    assert_eq!(messages(&server, "celery"), [b"one".as_slice(), b"three"]);
}

#[test]
fn refusals_have_their_kinds_and_leave_the_connection_usable() {
    let server = RedisServer::start(&[]);
    let publisher = publisher(&server);
    let mut client = server.client();
    client.ask("SET celery text");
    let error = publisher.publish(to("celery", 0, b"one")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ServerRefused, "{error}");
    client.ask("CONFIG SET maxmemory 1");
    let error = publisher.publish(to("other", 0, b"one")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ServerBusy, "{error}");
    client.ask("CONFIG SET maxmemory 0");
    let many = [to("other", 0, b"one"), to("celery", 0, b"two"), to("other", 0, b"three")];
    let error = publisher.publish_many(&many).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ServerRefused);
    assert!(error.message().starts_with("2 of 3 messages were published"), "{error}");
    assert_eq!(messages(&server, "other"), [b"one".as_slice(), b"three"]);
    publisher.publish(to("other", 0, b"four")).unwrap();
    assert_eq!(connections(&server), 2, "ours and the test's");
}

#[test]
fn a_wrong_password_is_an_authentication_error() {
    let server = RedisServer::start(&["--requirepass", "secret"]);
    let mut options = options(&server);
    options.address.password = Some("wrong".into());
    let error = RedisPublisher::new(options.clone()).unwrap().publish(to("celery", 0, b"one")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    options.address.password = Some("secret".into());
    RedisPublisher::new(options).unwrap().publish(to("celery", 0, b"one")).unwrap();
}

#[test]
#[allow(unsafe_code)]
fn a_forked_child_leaves_its_parents_connections_alone() {
    let server = RedisServer::start(&[]);
    let publisher = publisher(&server);
    publisher.publish(to("celery", 0, b"parent")).unwrap();
    // SAFETY: the child only publishes and leaves by `_exit`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let published = publisher.publish(to("celery", 0, b"child")).is_ok();
        drop(publisher);
        // SAFETY: ends the child without running what belongs to the test process.
        unsafe { libc::_exit(if published { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: waits for our own child.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert_eq!(status, 0);
    publisher.publish(to("celery", 0, b"parent again")).unwrap();
    assert_eq!(messages(&server, "celery"), [b"parent".as_slice(), b"child", b"parent again"]);
    wait_for("the child's connection to end", || (connections(&server) == 1).then_some(()));
}

#[test]
fn options_without_priority_steps_are_refused() {
    let server = RedisServer::start(&[]);
    let error = RedisPublisher::new(PublisherOptions { priority_steps: vec![], ..options(&server) }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}
