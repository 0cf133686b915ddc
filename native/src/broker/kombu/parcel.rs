//! From a parcel to an envelope.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::link::Parcel;
use crate::broker::Undecodable;
use crate::broker::adoption::Identity;
use crate::error::{Error, ErrorKind};
use crate::message::{Envelope, Parts};

/// The message, or why it cannot be read.
pub(super) fn open(parcel: Parcel, max_bytes: u64) -> Result<Envelope, Undecodable> {
    let size = parcel.headers.len() + parcel.properties.len() + parcel.body.len();
    if size as u64 > max_bytes.min(u64::from(u32::MAX / 2)) {
        let text = format!("message of {size} bytes exceeds the bound of {max_bytes} bytes");
        return Err(Undecodable { error: Error::new(ErrorKind::TooLarge, text), raw: Vec::new() });
    }
    let mut parts = Parts { buffer: parcel.headers, ..Parts::default() };
    parts.buffer.reserve_exact(size - parts.buffer.len() + parcel.content_type.len() + parcel.content_encoding.len());
    parts.headers = (0, parts.buffer.len());
    let mut append = |bytes: &[u8]| {
        let start = parts.buffer.len();
        parts.buffer.extend_from_slice(bytes);
        (start, parts.buffer.len())
    };
    let properties = append(&parcel.properties);
    let content_type = append(parcel.content_type.as_bytes());
    let content_encoding = append(parcel.content_encoding.as_bytes());
    let body = append(&parcel.body);
    Parts { properties, content_type, content_encoding, body, ..parts }
        .into_envelope()
        .map_err(|(error, buffer)| Undecodable { error, raw: buffer.get(body.0..body.1).unwrap_or_default().to_vec() })
}

/// The same for every delivery of one message.
pub(super) fn identity(queue: u16, content: &Result<Envelope, Undecodable>) -> Identity {
    let mut hasher = DefaultHasher::new();
    queue.hash(&mut hasher);
    match content {
        Ok(envelope) => (envelope.id(), envelope.retries(), envelope.body().len()).hash(&mut hasher),
        Err(undecodable) => undecodable.raw.hash(&mut hasher),
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parcel(headers: &str, body: &[u8]) -> Parcel {
        Parcel {
            headers: headers.into(),
            properties: br#"{"priority": 3, "body_encoding": "base64"}"#.to_vec(),
            body: body.to_vec(),
            content_type: "application/json".into(),
            content_encoding: "utf-8".into(),
            ..Parcel::default()
        }
    }

    #[test]
    fn parts_come_out_as_they_went_in() {
        let envelope = open(parcel(r#"{"id": "1", "task": "t", "retries": 2}"#, b"[[], {}, {}]"), 1000).unwrap();
        assert_eq!((envelope.id(), envelope.task(), envelope.retries()), ("1", "t", 2));
        // Kombu has undone the transport's encoding already.
        assert_eq!((envelope.body(), envelope.priority()), (&b"[[], {}, {}]"[..], Some(3)));
        assert_eq!((envelope.content_type(), envelope.content_encoding()), ("application/json", "utf-8"));
    }

    #[test]
    fn what_cannot_be_read_keeps_its_body() {
        let undecodable = open(parcel(r#"{"id": 5, "task": "t"}"#, b"body"), 1000).unwrap_err();
        assert_eq!(undecodable.raw, b"body");
        assert_eq!(undecodable.error.kind(), ErrorKind::Malformed);
    }

    #[test]
    fn large_messages_are_not_copied() {
        let undecodable = open(parcel("{}", &[0; 2000]), 1000).unwrap_err();
        assert_eq!(undecodable.error.kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn a_message_is_known_again_by_id_attempt_and_queue() {
        let of = |queue, headers: &str| identity(queue, &open(parcel(headers, b"[]"), 1000));
        let first = of(0, r#"{"id": "1", "task": "t", "retries": 0}"#);
        assert_eq!(first, of(0, r#"{"task": "t", "id": "1", "retries": 0}"#));
        assert_ne!(first, of(0, r#"{"id": "1", "task": "t", "retries": 1}"#));
        assert_ne!(first, of(1, r#"{"id": "1", "task": "t", "retries": 0}"#));
    }
}
