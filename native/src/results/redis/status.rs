//! Tells whether a stored result says SUCCESS, in each form that Celery's serializers give it.

use base64_simd::STANDARD;
use memchr::memmem;

use crate::codec::compress::decompress;
use crate::codec::json::{Scanner, unescape_into};

/// What Celery puts before a compressed result: this, the content type, a zero byte, the data.
const COMPRESSED: &[u8] = b"\0celery-compressed\0";
/// A compressed result that unpacks to more is not judged.
const MAX_UNPACKED_BYTES: u64 = 64 << 20;
/// Between the parts of a signed result (`auth`): signer, signature, content type, content encoding, data.
const SIGNED_SEPARATOR: &[u8] = b"\0\x01";
const PARTS_BEFORE_SIGNED_DATA: usize = 4;

/// Whether a stored value is a result in state SUCCESS.
///
/// JSON, pickle, msgpack and YAML, signed or not, are read as far as their `status`; anything else says no, because
/// to keep a value for ever that may be an intermediate state would lose the task's result. Who signed is not asked:
/// whoever can write here can replace the value as well.
#[must_use]
pub(super) fn is_success(value: &[u8]) -> bool {
    if let Some(rest) = value.strip_prefix(COMPRESSED) {
        let Some(end) = memchr::memchr(0, rest) else { return false };
        let Ok(content_type) = std::str::from_utf8(&rest[..end]) else { return false };
        return decompress(content_type, &rest[end + 1..], MAX_UNPACKED_BYTES)
            .is_ok_and(|plain| is_success_plain(&plain));
    }
    is_success_plain(value)
}

fn is_success_plain(value: &[u8]) -> bool {
    match signed_data(value) {
        Some(data) => is_success_unsigned(&data),
        None => is_success_unsigned(value),
    }
}

/// The data inside a signed result: base64 of the parts, all of it.
fn signed_data(value: &[u8]) -> Option<Vec<u8>> {
    let signed = STANDARD.decode_to_vec(value).ok()?;
    let mut start = 0;
    for _ in 0..PARTS_BEFORE_SIGNED_DATA {
        start += memmem::find(&signed[start..], SIGNED_SEPARATOR)? + SIGNED_SEPARATOR.len();
    }
    Some(signed[start..].to_vec())
}

fn is_success_unsigned(value: &[u8]) -> bool {
    match value.first() {
        Some(b'{' | b' ' | b'\n' | b'\r' | b'\t') => json_status(value).is_some_and(|status| status == b"SUCCESS"),
        Some(0x80) => pickle_is_success(value),
        Some(0x81..=0x8f | 0xde | 0xdf) => msgpack_is_success(value),
        _ => yaml_is_success(value),
    }
}

/// The `status` member of a JSON object.
fn json_status(value: &[u8]) -> Option<Vec<u8>> {
    let mut scanner = Scanner::new(value, 0);
    scanner.skip_whitespace();
    let mut status = None;
    let mut more = scanner.open_object().ok()?;
    while more {
        let key = scanner.key().ok()?;
        let member = scanner.value().ok()?;
        let mut name = Vec::new();
        if unescape_into(&value[key.start..key.end], &mut name).is_ok() && name == b"status" {
            status = None;
            if let Some(token) = member.string() {
                let mut text = Vec::new();
                unescape_into(&value[token.start..token.end], &mut text).ok()?;
                status = Some(text);
            }
        }
        more = scanner.next_member().ok()?;
    }
    status
}

/// Pickle protocols 2 to 5 of a dict whose first key is `status`, which Celery's always is.
fn pickle_is_success(value: &[u8]) -> bool {
    let mut rest = &value[2.min(value.len())..];
    if rest.first() == Some(&0x95) {
        // A frame: opcode and eight bytes of length.
        rest = rest.get(9..).unwrap_or_default();
    }
    let Some(after) = rest.strip_prefix(b"}") else { return false };
    let Some(after) = skip_memo(after).strip_prefix(b"(") else { return false };
    let Some(after) = strip_pickled(after, b"status") else { return false };
    strip_pickled(skip_memo(after), b"SUCCESS").is_some()
}

/// Steps over the opcode that remembers the last value.
fn skip_memo(rest: &[u8]) -> &[u8] {
    match rest {
        [0x94, after @ ..] | [b'q', _, after @ ..] | [b'r', _, _, _, _, after @ ..] => after,
        other => other,
    }
}

fn strip_pickled<'a>(rest: &'a [u8], text: &[u8]) -> Option<&'a [u8]> {
    let length = text.len() as u8;
    let contents = match rest {
        [0x8c, size, contents @ ..] if *size == length => contents,
        [b'X', size, 0, 0, 0, contents @ ..] if *size == length => contents,
        _ => return None,
    };
    contents.strip_prefix(text)
}

fn msgpack_is_success(value: &[u8]) -> bool {
    let header = match value[0] {
        0xde => 3,
        0xdf => 5,
        _ => 1,
    };
    value.get(header..).is_some_and(|members| members.starts_with(b"\xa6status\xa7SUCCESS"))
}

/// A line of its own at the left margin; text inside a value is always indented or quoted.
fn yaml_is_success(value: &[u8]) -> bool {
    value.split(|byte| *byte == b'\n').any(|line| line.trim_ascii_end() == b"status: SUCCESS")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::Value;

    use super::*;

    const GOLDEN: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/results.json"));

    #[test]
    fn tells_the_state_of_results_as_celery_encodes_them() {
        let cases: Vec<Value> = serde_json::from_str(GOLDEN).unwrap();
        assert!(cases.len() > 40);
        for case in cases {
            let value = STANDARD.decode_to_vec(case["value"].as_str().unwrap()).unwrap();
            assert_eq!(is_success(&value), case["state"] == "SUCCESS", "{}", case["name"]);
        }
    }

    #[test]
    fn what_only_looks_signed_is_not_judged() {
        let part = |text: &str| STANDARD.encode_to_string(text);
        let json = r#"{"status": "SUCCESS"}"#;
        for (parts, is_signed) in [
            (vec![part("signer").as_str(), part("signature").as_str(), "application/json", "utf-8", json], true),
            (vec!["", "", "", "", json], true),
            (vec!["application/json", "utf-8", json], false),
            (vec![json], false),
        ] {
            let value = part(&parts.join("\0\u{1}"));
            assert_eq!(is_success(value.as_bytes()), is_signed, "{parts:?}");
            assert!(!is_success(&value.as_bytes()[..value.len() - 1]), "cut off: {parts:?}");
            assert!(!is_success(part(&value).as_bytes()), "signed twice: {parts:?}");
        }
    }

    #[test]
    fn json_is_read_whatever_its_order_and_spacing() {
        for success in [
            r#"{"result":{"status":"FAILURE"},"status":"SUCCESS"}"#,
            r#" { "status" : "FAILURE", "st\u0061tus" : "S\u0055CCESS" } "#,
        ] {
            assert!(is_success(success.as_bytes()), "{success}");
        }
        for other in [
            r#"{"result": {"status": "SUCCESS"}, "status": "STARTED"}"#,
            r#"{"status": "SUCCESS", "status": null}"#,
            r#"{"status": "SUCCESS""#,
            r#"["status", "SUCCESS"]"#,
            "",
            "\0celery-compressed\0application/x-gzip\0junk",
        ] {
            assert!(!is_success(other.as_bytes()), "{other}");
        }
    }
}
