#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use base64_simd::STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::error::{Error, ErrorKind};

const GOLDEN: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/messages.json"));
const NO_BOUND: u64 = u64::MAX;

fn parse(raw: &str) -> Result<Envelope, Error> {
    parse_envelope(raw.into(), NO_BOUND).map_err(|(error, returned)| {
        assert_eq!(returned, raw.as_bytes(), "the bytes come back as they were");
        error
    })
}

fn with_headers(headers: &str) -> String {
    format!(r#"{{"body": "", "headers": {headers}, "properties": {{}}}}"#)
}

/// The envelope's own reading in the form of the golden file.
fn described(envelope: &Envelope) -> Value {
    json!({
        "protocol": if envelope.protocol() == Protocol::V2 { 2 } else { 1 },
        "id": envelope.id(),
        "task": envelope.task(),
        "root_id": envelope.root_id(),
        "shadow": envelope.shadow(),
        "compression": envelope.compression(),
        "content_type": envelope.content_type(),
        "content_encoding": envelope.content_encoding(),
        "body": STANDARD.encode_to_string(envelope.body()),
        "eta_s": envelope.eta_s(),
        "expires_s": envelope.expires_s(),
        "hard_time_limit_s": envelope.hard_time_limit_s(),
        "soft_time_limit_s": envelope.soft_time_limit_s(),
        "retries": envelope.retries(),
        "priority": envelope.priority(),
        "ignore_result": envelope.ignore_result(),
        "has_stamps": envelope.has_stamps(),
    })
}

fn same(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

#[test]
fn reads_messages_of_stock_clients_as_kombu_does() {
    let cases: Vec<Value> = serde_json::from_str(GOLDEN).unwrap();
    assert!(cases.len() > 30);
    for case in cases {
        let raw = case["raw"].as_str().unwrap();
        let envelope = parse(raw).unwrap();
        for (field, value) in described(&envelope).as_object().unwrap() {
            assert!(same(value, &case[field]), "{} {field}: {value} is not {}", case["name"], case[field]);
        }
        let whole: Value = serde_json::from_str(raw).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(envelope.headers()).unwrap(), whole["headers"]);
        assert_eq!(serde_json::from_slice::<Value>(envelope.properties()).unwrap(), whole["properties"]);
        assert!(!envelope.eta_invalid() && !envelope.expires_invalid() && !envelope.redelivered());
    }
}

#[test]
fn builds_messages_of_stock_clients_to_the_byte() {
    for case in serde_json::from_str::<Vec<Value>>(GOLDEN).unwrap() {
        let raw = case["raw"].as_str().unwrap();
        let envelope = parse(raw).unwrap();
        if raw.contains(r#""body_encoding": "base64""#) {
            let built = build_envelope(
                envelope.body(),
                envelope.headers(),
                envelope.properties(),
                envelope.content_type(),
                envelope.content_encoding(),
            );
            assert_eq!(String::from_utf8(built).unwrap(), raw);
        }
    }
}

#[test]
fn the_last_of_repeated_keys_counts() {
    let envelope = parse(
        r#"{"headers": {"id": "a", "task": "t", "id": "b"}, "body": "x", "properties": {"body_encoding": "base64"},
            "body": {}, "body": "y", "headers": {"id": "c", "id": "d", "task": "u", "eta": 1, "eta": null},
            "properties": {"priority": 1, "priority": 2}}"#,
    );
    assert_eq!(envelope.unwrap_err().message(), "body: expected a string at byte 125");
    let envelope = parse(
        r#"{"headers": {"id": "a", "task": "t", "eta": "2020"}, "body": "x", "properties": {"body_encoding": "base64"},
            "body": "y\u00e9", "headers": {"id": "c", "id": "d", "task": "u", "eta": 1, "eta": null},
            "properties": {"priority": 1, "priority": 2, "delivery_info": {"redelivered": true}}}"#,
    )
    .unwrap();
    assert_eq!((envelope.id(), envelope.task(), envelope.body()), ("d", "u", "y\u{e9}".as_bytes()));
    assert_eq!((envelope.priority(), envelope.eta_s(), envelope.eta_invalid()), (Some(2), None, false));
    assert!(envelope.redelivered());
}

#[test]
fn escaped_keys_and_values_mean_what_they_spell() {
    let envelope = parse(
        r#" { "\u0068eaders" : { "\u0069d" : "\u00e9\ud83d\ude00" , "t\u0061sk" : "a\/b" } ,
            "bod\u0079":"W10\u003d", "propertie\u0073":{"body\u005fencoding":"base\u00364"}, "content-type":"a\u002fb"}
        "#,
    )
    .unwrap();
    assert_eq!((envelope.id(), envelope.task(), envelope.body()), ("\u{e9}\u{1f600}", "a/b", b"[]".as_slice()));
    assert_eq!(envelope.content_type(), "a/b");
}

#[test]
fn messages_without_task_or_id_in_the_headers_are_protocol_1() {
    for headers in ["{}", "null", "[]", r#"{"task": "t"}"#, r#"{"id": "i"}"#] {
        let envelope = parse(&with_headers(headers)).unwrap();
        assert_eq!(envelope.protocol(), Protocol::V1, "{headers}");
    }
    assert_eq!(parse(r#"{"properties": {}}"#).unwrap().headers(), b"{}");
}

#[test]
fn dates_that_celery_cannot_read_are_marked() {
    for (value, absent) in [("null", true), ("0", false), ("\"\"", false), ("1e9", false), ("\"soon\"", false)] {
        let headers = format!(r#"{{"id": "i", "task": "t", "eta": {value}, "expires": {value}}}"#);
        let envelope = parse(&with_headers(&headers)).unwrap();
        assert_eq!((envelope.eta_invalid(), envelope.expires_invalid()), (!absent, !absent), "{value}");
        assert_eq!((envelope.eta_s(), envelope.expires_s()), (None, None), "{value}");
    }
}

#[test]
fn an_unknown_body_encoding_does_not_matter_without_a_body() {
    assert_eq!(parse(r#"{"body": "", "properties": {"body_encoding": 13}}"#).unwrap().body(), b"");
}

#[test]
fn typed_dates_are_read() {
    let typed = r#"{"id": "i", "task": "t", "eta": {"__type__": "datetime", "__value__": "2020-12-01T10:00:00"}}"#;
    assert_eq!(parse(&with_headers(typed)).unwrap().eta_s(), Some(1606816800.0));
}

#[test]
fn errors_name_the_part_and_the_offset() {
    let cases = [
        ("", "message: expected an object at byte 0"),
        ("[]", "message: expected an object at byte 0"),
        ("{}", "properties: missing at byte 2"),
        (r#"{"properties": {}} x"#, "message: unexpected data after the message at byte 19"),
        (r#"{"properties": null}"#, "properties: expected an object at byte 15"),
        (r#"{"headers": [1], "properties": {}}"#, "headers: expected an object at byte 12"),
        (r#"{"headers": {"id": 5}, "properties": {}}"#, "headers.id: expected a string at byte 19"),
        (r#"{"headers": {"id": "\ud800"}, "properties": {}}"#, "headers.id: unpaired surrogate at byte 19"),
        (r#"{"headers": {"task": null}, "properties": {}}"#, "headers.task: expected a string at byte 21"),
        (
            r#"{"headers": {"timelimit": [1]}, "properties": {}}"#,
            "headers.timelimit: expected a list of two limits at byte 26",
        ),
        (
            r#"{"headers": {"timelimit": [1, "x"]}, "properties": {}}"#,
            "headers.timelimit: expected a number at byte 30",
        ),
        (r#"{"headers": {"compression": 7}, "properties": {}}"#, "headers.compression: expected a string at byte 28"),
        (r#"{"body": 5, "properties": {}}"#, "body: expected a string at byte 9"),
        (r#"{"body": "\ud800", "properties": {}}"#, "body: unpaired surrogate at byte 0"),
        (r#"{"content-type": 5, "properties": {}}"#, "content-type: expected a string at byte 17"),
        (
            r#"{"body": "x", "properties": {"body_encoding": "rot13"}}"#,
            "properties.body_encoding: unknown body encoding at byte 46",
        ),
        (r#"{"body": "AAA", "properties": {"body_encoding": "base64"}}"#, "body: incorrect base64 padding at byte 10"),
    ];
    for (raw, expected) in cases {
        let error = parse(raw).unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Malformed, expected), "{raw}");
    }
    let (error, raw) = parse_envelope(b"{\"a\": \"\xff\"}".to_vec(), NO_BOUND).unwrap_err();
    assert_eq!((error.message(), raw.len()), ("message: invalid UTF-8 at byte 7", 10));
    let (error, _) = parse_envelope(vec![b' '; 101], 100).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(error.message(), "message of 101 bytes exceeds the bound of 100 bytes");
}

#[test]
fn every_truncation_of_a_message_is_an_error() {
    let cases: Vec<Value> = serde_json::from_str(GOLDEN).unwrap();
    let raw = cases[0]["raw"].as_str().unwrap();
    for length in 0..raw.len() {
        assert!(parse(&raw[..length]).is_err(), "{length}");
    }
}

/// Any JSON value that Python would round-trip.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}|[\\x00-\\x7f]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec(("[a-z_]{1,8}", inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn agrees_with_serde(
        id in ".{0,20}", task in ".{0,20}", body in prop::collection::vec(any::<u8>(), 0..200), base64 in any::<bool>(),
        extra in prop::collection::vec(("[a-z]{4,8}", any_json()), 0..5), pretty in any::<bool>(), retries in any::<u32>(),
    ) {
        let text = String::from_utf8_lossy(&body).into_owned();
        let mut headers = json!({"id": id, "task": task, "retries": retries});
        headers.as_object_mut().unwrap().extend(extra.into_iter().filter(|(key, _)| !["task", "shadow", "expires"].contains(&key.as_str())
            && !["timelimit", "retries", "compression"].contains(&key.as_str())));
        let message = json!({
            "body": if base64 { STANDARD.encode_to_string(&body) } else { text.clone() },
            "headers": headers,
            "properties": {"body_encoding": if base64 { "base64" } else { "UTF-8" }},
        });
        let raw = if pretty { serde_json::to_string_pretty(&message) } else { serde_json::to_string(&message) }.unwrap();
        let envelope = parse(&raw).unwrap();
        prop_assert_eq!(envelope.id(), id);
        prop_assert_eq!(envelope.task(), task);
        prop_assert_eq!(envelope.retries(), retries);
        prop_assert_eq!(envelope.body(), if base64 { body.as_slice() } else { text.as_bytes() });
        prop_assert_eq!(serde_json::from_slice::<Value>(envelope.headers()).unwrap(), headers);
    }

    #[test]
    fn arbitrary_bytes_are_parsed_or_come_back(raw in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Err((_, returned)) = parse_envelope(raw.clone(), NO_BOUND) {
            prop_assert_eq!(returned, raw);
        }
    }

    #[test]
    fn a_changed_byte_is_parsed_or_the_bytes_come_back(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let cases: Vec<Value> = serde_json::from_str(GOLDEN).unwrap();
        let mut raw = cases[1]["raw"].as_str().unwrap().as_bytes().to_vec();
        let index = at.index(raw.len());
        raw[index] = byte;
        match parse_envelope(raw.clone(), NO_BOUND) {
            Ok(envelope) => prop_assert!(serde_json::from_slice::<Value>(envelope.headers()).is_ok()),
            Err((_, returned)) => prop_assert_eq!(returned, raw),
        }
    }

    #[test]
    fn parts_become_an_envelope_or_come_back(
        headers in any_json(), properties in any_json(), body: Vec<u8>, at: prop::sample::Index, byte: Option<u8>,
    ) {
        let (headers, properties) = (headers.to_string(), properties.to_string());
        let mut buffer = [headers.as_bytes(), properties.as_bytes(), &body].concat();
        if let Some(byte) = byte
            && !buffer.is_empty()
        {
            let place = at.index(buffer.len());
            buffer[place] = byte;
        }
        let (first, second) = (headers.len(), headers.len() + properties.len());
        let places = Parts {
            headers: (0, first), properties: (first, second), body: (second, buffer.len()), buffer: buffer.clone(), ..Parts::default()
        };
        match places.into_envelope() {
            Ok(envelope) => prop_assert_eq!(envelope.body(), &buffer[second..]),
            Err((_, returned)) => prop_assert_eq!(returned, buffer),
        }
    }
}
