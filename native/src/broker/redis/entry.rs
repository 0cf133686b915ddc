//! The entries of the unacked hash: `[message, exchange, routing key]`.

use crate::error::{Error, ErrorKind, Result};

/// A stock worker's entry, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ForeignEntry<'a> {
    /// The message's JSON as it stands.
    pub(super) message: &'a [u8],
    pub(super) exchange: String,
    pub(super) routing_key: String,
}

/// Takes the message out of an entry that we wrote for a queue with this tail.
pub(super) fn own_message(mut entry: Vec<u8>, tail: &[u8]) -> Result<Vec<u8>> {
    let size = entry.len();
    if size < tail.len() + 1 || entry[0] != b'[' || !entry.ends_with(tail) {
        return Err(Error::new(ErrorKind::Malformed, "an entry of the unacked hash is not as we wrote it"));
    }
    entry.truncate(size - tail.len());
    entry.remove(0);
    Ok(entry)
}

/// Takes an entry apart that kombu wrote.
pub(super) fn foreign_entry(entry: &[u8]) -> Option<ForeignEntry<'_>> {
    let at = skip_whitespace(entry, 0);
    if entry.get(at) != Some(&b'[') {
        return None;
    }
    let begin = skip_whitespace(entry, at + 1);
    let end = skip_value(entry, begin)?;
    let (exchange, at) = next_string(entry, end)?;
    let (routing_key, at) = next_string(entry, at)?;
    let at = skip_whitespace(entry, at);
    (entry.get(at) == Some(&b']')).then(|| ForeignEntry { message: &entry[begin..end], exchange, routing_key })
}

fn skip_whitespace(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        at += 1;
    }
    at
}

/// Where the object, list or string that begins at `at` ends.
fn skip_value(text: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0usize;
    loop {
        match text.get(at)? {
            b'"' => at = skip_string(text, at)?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            _ => at += 1,
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

fn skip_string(text: &[u8], quote: usize) -> Option<usize> {
    let mut at = quote + 1;
    loop {
        match text.get(at)? {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// Reads `, "text"`; null reads as empty.
fn next_string(text: &[u8], at: usize) -> Option<(String, usize)> {
    let at = skip_whitespace(text, at);
    if text.get(at) != Some(&b',') {
        return None;
    }
    let at = skip_whitespace(text, at + 1);
    if text.get(at..at + 4) == Some(b"null") {
        return Some((String::new(), at + 4));
    }
    if text.get(at) != Some(&b'"') {
        return None;
    }
    let end = skip_string(text, at)?;
    Some((unescape(&text[at + 1..end - 1])?, end))
}

fn unescape(text: &[u8]) -> Option<String> {
    let mut plain = Vec::with_capacity(text.len());
    crate::codec::json::unescape_into(text, &mut plain).ok()?;
    String::from_utf8(plain).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn our_entries_give_the_message_back() {
        let tail = br#","","celery"]"#;
        let entry = br#"[{"body": "x"},"","celery"]"#.to_vec();
        assert_eq!(own_message(entry, tail).unwrap(), br#"{"body": "x"}"#);
        assert!(own_message(b"[]".to_vec(), tail).is_err());
    }

    #[test]
    fn kombus_entries_are_taken_apart() {
        let entry = br#"[{"body": "]}\"", "n": [1, {}]}, "ex", "a\u002fb"]"#;
        let parts = foreign_entry(entry).unwrap();
        assert_eq!(parts.message, br#"{"body": "]}\"", "n": [1, {}]}"#);
        assert_eq!((parts.exchange.as_str(), parts.routing_key.as_str()), ("ex", "a/b"));
    }

    #[test]
    fn broken_entries_are_refused() {
        for entry in ["", "[", "[{}", "[{},", "[{}, \"a\"]", "[{}, \"a\", \"b", "{}", "[}, \"\", \"q\"]"] {
            assert_eq!(foreign_entry(entry.as_bytes()), None, "{entry}");
        }
    }

    proptest! {
        #[test]
        fn every_entry_that_kombu_can_write_is_taken_apart(body in ".{0,40}", exchange in ".{0,20}", key in ".{0,20}") {
            let message = serde_json::json!({"body": body, "headers": {"n": [1, {"deep": body}]}});
            let entry = serde_json::json!([message, exchange, key]).to_string();
            let parts = foreign_entry(entry.as_bytes()).unwrap();
            let message = message.to_string();
            prop_assert_eq!(parts.message, message.as_bytes());
            prop_assert_eq!((parts.exchange, parts.routing_key), (exchange, key));
        }

        #[test]
        fn almost_entries_never_panic(pieces in proptest::collection::vec(
            proptest::sample::select(vec!["[", "]", "{", "}", "\"", "\\", ",", " ", "null", "\\u0041", "\\ud800", "a", "1"]), 0..24,
        ), raw in proptest::collection::vec(any::<u8>(), 0..60)) {
            let text = pieces.concat();
            for entry in [text.as_bytes(), &raw] {
                if let Some(parts) = foreign_entry(entry) {
                    prop_assert!(parts.message.len() < entry.len());
                }
                let _ = own_message(entry.to_vec(), br#","","q"]"#);
            }
        }
    }
}
