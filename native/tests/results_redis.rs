//! The result store against a real Redis.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod private_redis;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use private_redis::server::RedisServer;
use private_redis::{DEADLINE, wait_for};
use pyworker_native::broker::TokenRange;
use pyworker_native::clock::monotonic_ns;
use pyworker_native::config::{RedisResultConfig, RetryPolicy};
use pyworker_native::error::{Error, ErrorKind};
use pyworker_native::results::redis::RedisResultStore;
use pyworker_native::results::{ResultStore, ResultWrite, StoreEvent};
use pyworker_native::wire::resp::Frame;

/// A store driven as the engine drives it.
struct Driver {
    store: RedisResultStore,
    poll: Poll,
    next_token: u64,
    /// How each write ended; a token twice fails the test.
    ended: HashMap<u64, Result<(), Error>>,
    /// Connected (true) and Disconnected (false), in order.
    connection: Vec<bool>,
    refusals: usize,
    given_up: usize,
}

fn config(server: &RedisServer) -> RedisResultConfig {
    RedisResultConfig {
        address: server.address(),
        expires_s: Some(3600),
        retry: RetryPolicy {
            retry: true,
            retry_on_startup: true,
            max_retries: None,
            interval_start_s: 0.0,
            interval_step_s: 0.01,
            interval_max_s: 0.05,
        },
    }
}

impl Driver {
    fn start(config: RedisResultConfig) -> Self {
        let poll = Poll::new().unwrap();
        let mut store = RedisResultStore::new(config);
        store.start(poll.registry(), TokenRange { first: 7, count: 2 }, monotonic_ns()).unwrap();
        Self { store, poll, next_token: 0, ended: HashMap::new(), connection: Vec::new(), refusals: 0, given_up: 0 }
    }

    fn put(&mut self, key: &str, value: impl AsRef<[u8]>) -> u64 {
        let value = value.as_ref();
        let is_success = value.starts_with(br#"{"status": "SUCCESS""#);
        self.write(key, value, is_success, true)
    }

    fn write(&mut self, key: &str, value: &[u8], is_success: bool, protected: bool) -> u64 {
        self.next_token += 1;
        let token = self.next_token;
        self.store.put(ResultWrite { token, key: key.as_bytes().into(), value: value.into(), is_success, protected });
        token
    }

    fn turn(&mut self) {
        let wait = self.store.deadline_ns().map_or(Duration::from_millis(50), |deadline_ns| {
            Duration::from_nanos(deadline_ns.saturating_sub(monotonic_ns())).min(Duration::from_millis(50))
        });
        let mut ready = Events::with_capacity(8);
        self.poll.poll(&mut ready, Some(wait)).unwrap();
        let ready: Vec<Token> = ready.iter().map(|event| event.token()).collect();
        let mut events = Vec::new();
        self.store.drive(self.poll.registry(), &ready, monotonic_ns(), &mut events).unwrap();
        for event in events {
            let (token, outcome) = match event {
                StoreEvent::Stored { token } => (token, Ok(())),
                StoreEvent::Failed { token, error } => (token, Err(error)),
                StoreEvent::Connected => {
                    self.connection.push(true);
                    continue;
                }
                StoreEvent::Refused { .. } => {
                    self.refusals += 1;
                    continue;
                }
                StoreEvent::GaveUp { .. } => {
                    self.given_up += 1;
                    continue;
                }
                StoreEvent::Disconnected { .. } => {
                    self.connection.push(false);
                    continue;
                }
            };
            assert!(self.ended.insert(token, outcome).is_none(), "write {token} ended twice");
        }
    }

    fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !done(self) {
            assert!(begin.elapsed() < DEADLINE, "waited for {what}; pending {}", self.store.pending());
            self.turn();
        }
    }

    fn settle(&mut self) {
        self.until("all writes to end", |driver| driver.store.pending() == 0);
    }

    fn kind(&self, token: u64) -> Option<ErrorKind> {
        self.ended[&token].as_ref().err().map(Error::kind)
    }
}

fn meta(status: &str, result: impl std::fmt::Display) -> String {
    format!(r#"{{"status": "{status}", "result": "{result}", "traceback": null, "children": [], "task_id": "x"}}"#)
}

/// Messages published on a key, collected until a marker arrives.
fn published(server: &RedisServer, key: &str, act: impl FnOnce()) -> Vec<Vec<u8>> {
    let mut subscriber = server.client();
    subscriber.ask(&format!("SUBSCRIBE {key}"));
    act();
    server.client().ask(&format!("PUBLISH {key} end"));
    let mut messages = Vec::new();
    loop {
        let mut parts = subscriber.receive().into_array().unwrap();
        let message = parts.pop().unwrap().into_bytes().unwrap();
        if message == b"end" {
            return messages;
        }
        messages.push(message);
    }
}

#[test]
fn a_result_is_set_with_its_expiry_and_published() {
    let server = RedisServer::start(&[]);
    let mut driver = Driver::start(config(&server));
    let value = meta("SUCCESS", "binary \u{0} and \r\n");
    let messages = published(&server, "celery-task-meta-1", || {
        driver.put("celery-task-meta-1", &value);
        driver.settle();
    });
    assert_eq!(messages, [value.as_bytes()]);
    let mut client = server.client();
    assert_eq!(client.get("celery-task-meta-1").unwrap(), value.as_bytes());
    let ttl = client.ask("TTL celery-task-meta-1").as_integer().unwrap();
    assert!((3590..=3600).contains(&ttl), "{ttl}");
    assert_eq!(driver.connection, [true]);
}

#[test]
fn without_expiry_results_stay() {
    let server = RedisServer::start(&[]);
    let mut driver = Driver::start(RedisResultConfig { expires_s: None, ..config(&server) });
    driver.put("a", meta("STARTED", 1));
    driver.put("a", meta("FAILURE", 2));
    driver.write("b", b"forced", false, false);
    driver.settle();
    let mut client = server.client();
    assert_eq!(client.get("a").unwrap(), meta("FAILURE", 2).as_bytes());
    assert_eq!(client.ask("TTL a"), Frame::Integer(-1));
    assert_eq!(client.ask("TTL b"), Frame::Integer(-1));
}

#[test]
fn the_states_of_a_task_are_published_in_order_and_the_last_stays() {
    let server = RedisServer::start(&[]);
    let mut driver = Driver::start(config(&server));
    let states = [meta("STARTED", 0), meta("PROGRESS", 1), meta("RETRY", 2), meta("SUCCESS", 3)];
    let messages = published(&server, "a", || {
        for state in &states {
            driver.put("a", state);
        }
        driver.settle();
    });
    assert_eq!(messages, states.each_ref().map(|state| state.as_bytes().to_vec()));
    assert_eq!(server.client().get("a").unwrap(), states[3].as_bytes());
    let ttl = server.client().ask("TTL a").as_integer().unwrap();
    assert!(ttl > 3590, "an overwritten result has its expiry too: {ttl}");
}

#[test]
fn a_stored_success_stays_and_nothing_is_published() {
    let server = RedisServer::start(&[]);
    let mut driver = Driver::start(config(&server));
    let success = meta("SUCCESS", 1);
    driver.put("a", &success);
    driver.settle();
    let messages = published(&server, "a", || {
        driver.put("a", meta("FAILURE", "worker lost"));
        driver.put("a", meta("SUCCESS", "again"));
        driver.settle();
    });
    assert!(messages.is_empty(), "{messages:?}");
    assert_eq!(server.client().get("a").unwrap(), success.as_bytes());
    driver.write("a", meta("FAILURE", 2).as_bytes(), false, false);
    driver.settle();
    assert_eq!(server.client().get("a").unwrap(), meta("FAILURE", 2).as_bytes(), "unprotected writes replace it");
}

#[test]
fn stored_values_that_only_we_can_judge_are_judged() {
    let server = RedisServer::start(&[]);
    let mut driver = Driver::start(config(&server));
    let mut client = server.client();
    // (stored before, whether it must stay)
    let cases: &[(&[u8], bool)] = &[
        (br#"{"result": 1, "status": "SUCCESS"}"#, true),
        (br#"{"result": {"status": "SUCCESS"}, "status": "STARTED"}"#, false),
        (b"\x86\xa6status\xa7SUCCESS\xa6result\x01", true),
        (b"\x86\xa6status\xa7STARTED\xa6result\xa7SUCCESS", false),
        (b"\x80\x02}q\0(X\x06\0\0\0statusq\x01X\x07\0\0\0SUCCESSq\x02u.", true),
        (b"\x80\x02}q\0(X\x06\0\0\0statusq\x01X\x07\0\0\0FAILUREq\x02u.", false),
        (b"children: []\nresult: 5\nstatus: SUCCESS\n", true),
        (b"children: []\nresult: 'status: SUCCESS'\nstatus: RETRY\n", false),
        (b"", false),
        (b"something else", false),
    ];
    let fresh = meta("FAILURE", "new");
    for (number, (stored, _)) in cases.iter().enumerate() {
        client.ask_bytes(&[b"SET", format!("k{number}").as_bytes(), stored]);
        driver.put(&format!("k{number}"), &fresh);
        driver.put(&format!("fresh{number}"), &fresh);
    }
    client.ask("LPUSH other-type x");
    driver.put("other-type", &fresh);
    driver.settle();
    for (number, (stored, stays)) in cases.iter().enumerate() {
        let expected = if *stays { stored } else { fresh.as_bytes() };
        assert_eq!(client.get(&format!("k{number}")).unwrap(), expected, "{}", String::from_utf8_lossy(stored));
        assert_eq!(client.get(&format!("fresh{number}")).unwrap(), fresh.as_bytes());
    }
    assert_eq!(client.get("other-type").unwrap(), fresh.as_bytes());
    assert!(driver.ended.values().all(Result::is_ok));
}

#[test]
fn thousands_of_writes_are_stored_in_few_round_trips() {
    let server = RedisServer::start(&[]);
    let mut driver = Driver::start(config(&server));
    let writes = 20_000;
    for number in 0..writes {
        driver.put(&format!("k{number}"), meta("SUCCESS", number));
    }
    driver.settle();
    let mut client = server.client();
    assert_eq!(client.ask("DBSIZE"), Frame::Integer(writes));
    assert_eq!(client.get("k777").unwrap(), meta("SUCCESS", 777).as_bytes());
    let calls = client.ask_bytes(&[b"INFO", b"commandstats"]);
    let line = calls.as_str().unwrap().lines().filter(|line| line.starts_with("cmdstat_eval")).collect::<Vec<_>>();
    let count: u64 =
        line.iter().filter_map(|line| line.split("calls=").nth(1)?.split(',').next()?.parse::<u64>().ok()).sum();
    assert!((writes as u64 / 256..=writes as u64 / 64).contains(&count), "{line:?}");
}

#[test]
fn large_values_pass_and_impossible_ones_fail_alone() {
    let server = RedisServer::start(&[]);
    let mut driver = Driver::start(config(&server));
    let large = meta("SUCCESS", "x".repeat(9 << 20));
    let before = driver.put("a", meta("SUCCESS", 1));
    let impossible = driver.write("b", &vec![b'x'; (512 << 20) + 1], true, true);
    driver.put("c", &large);
    driver.settle();
    assert_eq!((driver.kind(before), driver.kind(impossible)), (None, Some(ErrorKind::TooLarge)));
    assert_eq!(server.client().get("c").unwrap(), large.as_bytes());
    assert_eq!(driver.connection, [true]);
}

#[test]
fn writes_queued_while_the_server_is_away_are_stored_when_it_returns() {
    let mut server = RedisServer::start(&[]);
    let mut driver = Driver::start(config(&server));
    driver.put("a", meta("SUCCESS", 1));
    driver.settle();
    server.kill();
    driver.until("the loss to be noticed", |driver| driver.connection.contains(&false));
    driver.put("b", meta("STARTED", 1));
    driver.put("b", meta("SUCCESS", 2));
    driver.until("a failed attempt", |driver| driver.connection.len() >= 3);
    assert_eq!(driver.store.pending(), 2);
    server.restart();
    driver.settle();
    assert_eq!(server.client().get("b").unwrap(), meta("SUCCESS", 2).as_bytes());
    assert_eq!(driver.connection.last(), Some(&true));
}

#[test]
fn writes_whose_confirmation_was_lost_are_sent_again() {
    let mut server = RedisServer::start(&[]);
    let mut driver = Driver::start(config(&server));
    driver.put("first", meta("SUCCESS", 0));
    driver.settle();
    server.signal(libc::SIGSTOP);
    for number in 0..1000 {
        driver.put(&format!("k{number}"), meta("SUCCESS", number));
    }
    for _ in 0..20 {
        driver.turn();
    }
    assert_eq!(driver.store.pending(), 1000);
    server.restart();
    driver.settle();
    assert_eq!(server.client().ask("DBSIZE"), Frame::Integer(1000));
    assert!(driver.ended.values().all(Result::is_ok));
}

#[test]
fn a_full_server_is_tried_again_and_order_is_kept() {
    let server = RedisServer::start(&[]);
    let mut driver = Driver::start(config(&server));
    driver.until("a connection", |driver| driver.connection == [true]);
    let mut client = server.client();
    client.ask("CONFIG SET maxmemory 1");
    driver.put("a", meta("STARTED", 1));
    for number in 0..1000 {
        driver.put(&format!("k{number}"), meta("SUCCESS", number));
    }
    driver.put("a", meta("FAILURE", 2));
    for _ in 0..5 {
        driver.turn();
    }
    assert_eq!(driver.store.pending(), 1002);
    client.ask("CONFIG SET maxmemory 0");
    driver.settle();
    assert!(driver.ended.values().all(Result::is_ok));
    assert_eq!(client.get("a").unwrap(), meta("FAILURE", 2).as_bytes());
    assert_eq!(client.ask("DBSIZE"), Frame::Integer(1001));
    assert_eq!(driver.connection, [true], "a full server is no reason to reconnect");
    assert_eq!(driver.refusals, 1, "the first refusal is told, the others are not news");
}

#[test]
fn exhausted_retries_fail_what_is_queued_and_the_next_write_begins_anew() {
    let mut server = RedisServer::start(&[]);
    let mut setup = config(&server);
    setup.retry.max_retries = Some(2);
    let mut driver = Driver::start(setup);
    let mut client = server.client();
    client.ask("CONFIG SET maxmemory 1");
    let refused = driver.put("a", meta("SUCCESS", 1));
    driver.settle();
    assert_eq!(driver.kind(refused), Some(ErrorKind::ServerBusy));
    drop(client);
    server.kill();
    let lost = driver.put("b", meta("SUCCESS", 1));
    driver.settle();
    assert_eq!(driver.kind(lost), Some(ErrorKind::Connection));
    server.restart();
    let stored = driver.put("c", meta("SUCCESS", 1));
    driver.settle();
    assert_eq!(driver.kind(stored), None);
    assert!(server.client().get("c").is_some());
}

#[test]
fn giving_up_is_told_though_nothing_is_queued() {
    let mut server = RedisServer::start(&[]);
    let mut setup = config(&server);
    setup.retry.max_retries = Some(1);
    let mut driver = Driver::start(setup);
    driver.until("a connection", |driver| driver.connection == [true]);
    server.kill();
    driver.until("the end of the attempts", |driver| driver.given_up == 1);
    server.restart();
    let stored = driver.put("a", meta("SUCCESS", 1));
    driver.settle();
    assert_eq!(driver.kind(stored), None);
}

#[test]
fn what_is_refused_for_good_fails_alone() {
    let server = RedisServer::start(&[]);
    let mut client = server.client();
    client.ask("ACL SETUSER limited on >secret ~allowed* +@all");
    // From Redis 6.2 on channels are allowed one by one; 6.0 does not know the word.
    client.ask("ACL SETUSER limited &*");
    let mut setup = config(&server);
    setup.address.username = Some("limited".into());
    setup.address.password = Some("secret".into());
    let mut driver = Driver::start(setup);
    let allowed = driver.put("allowed1", meta("SUCCESS", 1));
    let forbidden = driver.put("forbidden", meta("SUCCESS", 1));
    let later = driver.put("allowed2", meta("SUCCESS", 1));
    driver.settle();
    assert_eq!(driver.kind(forbidden), Some(ErrorKind::ServerRefused));
    assert_eq!((driver.kind(allowed), driver.kind(later)), (None, None));
    assert!(client.get("allowed1").is_some() && client.get("allowed2").is_some());
}

#[test]
fn a_server_that_forgot_the_script_gets_it_again() {
    let server = RedisServer::start(&[]);
    let mut driver = Driver::start(config(&server));
    driver.put("a", meta("SUCCESS", 1));
    driver.settle();
    for round in 0..3 {
        driver.put(&format!("b{round}"), meta("SUCCESS", 1));
        driver.settle();
        server.client().ask("SCRIPT FLUSH");
    }
    driver.put("c", meta("SUCCESS", 1));
    driver.settle();
    driver.put("d", meta("SUCCESS", 1));
    driver.settle();
    let mut client = server.client();
    assert!(client.get("b2").is_some() && client.get("c").is_some() && client.get("d").is_some());
}

/// Small, repeatable randomness.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[test]
fn whatever_happens_on_the_way_each_key_ends_in_its_last_state_or_success() {
    let server = RedisServer::start(&[]);
    for seed in 0..20 {
        let mut client = server.client();
        client.ask("FLUSHALL");
        let mut driver = Driver::start(config(&server));
        driver.until("a connection", |driver| driver.connection == [true]);
        let mut dice = Dice(seed);
        let mut expected: HashMap<String, Vec<u8>> = HashMap::new();
        for step in 0..400 {
            let key = format!("k{}", dice.roll(5));
            let state = ["STARTED", "RETRY", "FAILURE", "FAILURE", "SUCCESS"][dice.roll(5) as usize];
            // Every other key is written in a form that only the store itself can judge.
            let value = match key.as_bytes()[1] % 2 {
                0 => meta(state, step).into_bytes(),
                _ => format!("\u{1}result: {step}\nstatus: {state}\n").into_bytes(),
            };
            driver.write(&key, &value, state == "SUCCESS", true);
            let stored = expected.entry(key).or_default();
            if !String::from_utf8_lossy(stored).contains("SUCCESS") {
                *stored = value;
            }
            match dice.roll(30) {
                0 => drop(client.ask("CLIENT KILL TYPE normal SKIPME yes")),
                1 => drop(client.ask("CONFIG SET maxmemory 1")),
                2..=5 => drop(client.ask("CONFIG SET maxmemory 0")),
                6 => drop(client.ask("SCRIPT FLUSH")),
                7..=15 => driver.turn(),
                _ => {}
            }
        }
        client.ask("CONFIG SET maxmemory 0");
        driver.settle();
        assert!(driver.ended.values().all(Result::is_ok), "seed {seed}");
        for (key, value) in &expected {
            assert_eq!(client.get(key).as_ref(), Some(value), "seed {seed}, {key}");
        }
    }
}

#[test]
fn a_wrong_password_is_retried_like_any_lost_connection_and_then_fails() {
    let server = RedisServer::start(&["--requirepass", "secret"]);
    let mut setup = config(&server);
    setup.retry.max_retries = Some(1);
    setup.address.password = Some("wrong".into());
    let mut driver = Driver::start(setup);
    let token = driver.put("a", meta("SUCCESS", 1));
    driver.settle();
    assert_eq!(driver.kind(token), Some(ErrorKind::Authentication));
}

#[test]
fn stopping_writes_what_the_socket_takes_and_closes() {
    let server = RedisServer::start(&[]);
    let mut driver = Driver::start(config(&server));
    driver.until("a connection", |driver| driver.connection == [true]);
    let registry = driver.poll.registry().try_clone().unwrap();
    driver.store.stop(&registry);
    driver.store.stop(&registry);
    wait_for("the connection to end", || {
        (server.client().ask("CLIENT LIST").as_str().unwrap().lines().count() == 1).then_some(())
    });
}
