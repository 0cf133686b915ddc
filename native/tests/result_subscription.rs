//! Waiting for results on a real Redis, with both protocols.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod private_redis;

use std::time::Duration;

use private_redis::server::RedisServer;
use private_redis::wait_for;
use pyworker_native::error::ErrorKind;
use pyworker_native::results::subscription::ResultSubscription;

const NO_RESP3: &[&str] = &["--rename-command", "HELLO", ""];

fn servers() -> [RedisServer; 2] {
    [RedisServer::start(&[]), RedisServer::start(NO_RESP3)]
}

fn listeners(server: &RedisServer, key: &str) -> i64 {
    let counts = server.client().ask(&format!("PUBSUB NUMSUB {key}")).into_array().unwrap();
    counts[1].as_integer().unwrap()
}

#[test]
fn what_is_stored_is_read_and_what_is_not_is_announced() {
    for server in servers() {
        let mut subscription = ResultSubscription::open(&server.address()).unwrap();
        server.client().ask("SET there value");
        let found = subscription.subscribe(&[b"there", b"missing"]).unwrap();
        assert_eq!(found, [Some(b"value".to_vec()), None]);
        server.client().ask("PUBLISH missing later");
        let announced = subscription.next(Duration::from_secs(20)).unwrap().unwrap();
        assert_eq!(announced, (b"missing".to_vec(), b"later".to_vec()));
        server.client().ask("SET missing later");
        assert_eq!(subscription.read(&[b"missing"]).unwrap(), [Some(b"later".to_vec())]);
    }
}

#[test]
fn time_that_is_up_is_no_error() {
    for server in servers() {
        let mut subscription = ResultSubscription::open(&server.address()).unwrap();
        subscription.subscribe(&[b"key"]).unwrap();
        assert_eq!(subscription.next(Duration::from_millis(1)).unwrap(), None);
    }
}

#[test]
fn more_keys_than_one_command_takes_are_all_waited_for() {
    for server in servers() {
        let keys: Vec<String> = (0..1201).map(|number| format!("key-{number}")).collect();
        let bytes: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
        server.client().ask("SET key-1200 last");
        let mut subscription = ResultSubscription::open(&server.address()).unwrap();
        let found = subscription.subscribe(&bytes).unwrap();
        assert_eq!(found.len(), 1201);
        assert_eq!(found.iter().flatten().collect::<Vec<_>>(), [b"last"]);
        assert_eq!((listeners(&server, "key-0"), listeners(&server, "key-1200")), (1, 1));
    }
}

#[test]
fn an_ended_wait_leaves_nothing_to_the_next() {
    for server in servers() {
        let mut subscription = ResultSubscription::open(&server.address()).unwrap();
        subscription.subscribe(&[b"first"]).unwrap();
        server.client().ask("PUBLISH first unread");
        subscription.unsubscribe().unwrap();
        server.client().ask("PUBLISH first again");
        assert_eq!(subscription.subscribe(&[b"second"]).unwrap(), [None]);
        assert_eq!((listeners(&server, "first"), listeners(&server, "second")), (0, 1));
        server.client().ask("PUBLISH second news");
        let seen: Vec<_> = std::iter::from_fn(|| subscription.next(Duration::from_secs(20)).unwrap())
            .take_while(|(key, _)| key != b"second")
            .collect();
        assert!(seen.iter().all(|(key, _)| key == b"first"), "{seen:?}");
        subscription.unsubscribe().unwrap();
        server.client().ask("SET second stored");
        assert_eq!(subscription.subscribe(&[b"second"]).unwrap(), [Some(b"stored".to_vec())], "the same one again");
        assert_eq!(listeners(&server, "second"), 1);
    }
}

#[test]
fn many_subscriptions_end_with_their_wait() {
    for server in servers() {
        let keys: Vec<String> = (0..40).map(|number| format!("key-{number}")).collect();
        let bytes: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
        let mut subscription = ResultSubscription::open(&server.address()).unwrap();
        subscription.subscribe(&bytes).unwrap();
        subscription.unsubscribe().unwrap();
        wait_for("the end of the subscriptions", || (listeners(&server, "key-39") == 0).then_some(()));
        assert_eq!(subscription.subscribe(&[b"last"]).unwrap(), [None]);
        assert_eq!(listeners(&server, "last"), 1);
    }
}

#[test]
fn a_server_that_ends_is_a_connection_error() {
    let server = RedisServer::start(&[]);
    let mut subscription = ResultSubscription::open(&server.address()).unwrap();
    subscription.subscribe(&[b"key"]).unwrap();
    drop(server);
    let error = subscription.next(Duration::from_secs(20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.is_retryable());
}
