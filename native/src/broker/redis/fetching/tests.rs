//! The fetch script's answers, and what only somebody in between could have sent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::config::{RedisAddress, RedisBrokerConfig, RetryPolicy};

const FIRST_COUNTER: u64 = 40;
const WANT: u32 = 5;

fn keys() -> Keys {
    let address = RedisAddress {
        host: String::new(),
        port: 1,
        unix_path: None,
        database: 0,
        username: None,
        password: None,
        client_name: None,
        connect_timeout_s: 1.0,
        socket_timeout_s: None,
        keepalive: false,
        health_check_interval_s: 0.0,
        tls: None,
        sentinel: None,
        credential_source: None,
        alternates: Vec::new(),
    };
    let retry = RetryPolicy {
        retry: true,
        retry_on_startup: true,
        max_retries: None,
        interval_start_s: 1.0,
        interval_step_s: 1.0,
        interval_max_s: 1.0,
    };
    Keys::new(&RedisBrokerConfig {
        address,
        queues: vec!["a".into(), "b".into()],
        priority_steps: vec![0, 3],
        separator: ":".into(),
        global_keyprefix: String::new(),
        queue_order: QueueOrder::RoundRobin,
        visibility_timeout_s: 60.0,
        unacked_key: "unacked".into(),
        unacked_index_key: "unacked_index".into(),
        owner: "me".into(),
        retry,
        max_message_bytes: 1000,
    })
}

fn ticket(fair: bool) -> FetchTicket {
    FetchTicket { first_counter: FIRST_COUNTER, want: WANT, order: [1, 0].into(), fair }
}

fn bulk(text: &str) -> Frame {
    Frame::Bulk(text.into())
}

fn group(position: i64, counter: i64, messages: &[&str]) -> Frame {
    let numbers = [Frame::Integer(position), Frame::Integer(counter)];
    Frame::Array(numbers.into_iter().chain(messages.iter().map(|text| bulk(text))).collect())
}

fn answer(groups: Vec<Frame>) -> Frame {
    Frame::Array([Frame::Integer(1), Frame::Array(Vec::new())].into_iter().chain(groups).collect())
}

fn texts(answer: &FetchAnswer) -> Vec<&str> {
    answer.messages.iter().map(|fetched| std::str::from_utf8(&fetched.message).unwrap()).collect()
}

#[test]
fn queues_take_turns_inside_a_step_only_if_reading_is_fair() {
    let reply =
        || answer(vec![group(1, 40, &["b1", "b2"]), group(2, 42, &["a1"]), group(3, 43, &["b urgent no more"])]);
    let fair = read_answer(reply(), &ticket(true), &keys()).unwrap();
    assert_eq!(texts(&fair), ["b1", "a1", "b2", "b urgent no more"]);
    assert!(fair.more);
    let ordered = read_answer(reply(), &ticket(false), &keys()).unwrap();
    assert_eq!(texts(&ordered), ["b1", "b2", "a1", "b urgent no more"]);
    let lists: Vec<_> = ordered.messages.iter().map(|fetched| fetched.list).collect();
    assert_eq!(lists, [2, 2, 0, 3], "queue times steps plus step");
}

#[test]
fn lists_and_counters_that_were_not_asked_for_are_refused() {
    for (position, counter) in [(0, 40), (5, 40), (-1, 40), (i64::MAX, 40), (1, 39), (1, 46), (1, -1), (1, i64::MAX)] {
        let error = read_answer(answer(vec![group(position, counter, &["x"])]), &ticket(true), &keys()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{position} {counter}");
    }
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let leaf = prop_oneof![
        Just(Frame::Null),
        (0..8i64).prop_map(Frame::Integer),
        (39..47i64).prop_map(Frame::Integer),
        any::<i64>().prop_map(Frame::Integer),
        "[a-z]{0,5}".prop_map(|text| Frame::Bulk(text.into_bytes())),
    ];
    leaf.prop_recursive(3, 40, 6, |inner| proptest::collection::vec(inner, 0..6).prop_map(Frame::Array))
}

proptest! {
    #[test]
    fn any_answer_is_read_or_refused(reply in any_frame(), parts in proptest::collection::vec(any_frame(), 0..4), fair: bool) {
        for reply in [reply, answer(parts)] {
            if let Ok(answer) = read_answer(reply, &ticket(fair), &keys()) {
                prop_assert!(answer.messages.iter().all(|fetched| fetched.list < 4));
            }
        }
    }
}
