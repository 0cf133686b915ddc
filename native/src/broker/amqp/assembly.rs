//! Deliveries put together from their frames.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::broker::Undecodable;
use crate::broker::adoption::Identity;
use crate::codec::json::escape_into;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Envelope, Parts};
use crate::wire::amqp::{FieldTable, FieldValue, Properties, Reader, decode_header};

/// The exchange behind the last delay level.
pub(super) const DELAYED_DELIVERY: &[u8] = b"celery_delayed_delivery";
/// Words of a delayed key before the one that leads to the queue.
const DELAY_LEVELS: usize = 28;
/// Room that is made for a body on the word of its header alone.
const RESERVE_MAX: u64 = 1 << 20;

/// A whole message as it came.
#[derive(Debug)]
pub(super) struct Delivered {
    /// The server's number.
    pub(super) delivery: u64,
    /// Index of the queue.
    pub(super) queue: u16,
    /// Which of the queue's consumers got it.
    pub(super) consumer: u32,
    /// Whether it was handed out before.
    pub(super) redelivered: bool,
    /// How often, where the server counts.
    pub(super) deliveries: u32,
    /// The same for every delivery of one message.
    pub(super) identity: Identity,
    /// The message.
    pub(super) content: std::result::Result<Envelope, Undecodable>,
    /// The properties as the server sent them, kept only where the message names a time before which it must not
    /// start: it may have to be published again.
    pub(super) properties: Vec<u8>,
}

/// A delivery whose content is still on its way.
#[derive(Debug)]
pub(super) struct Assembly {
    delivery: u64,
    queue: u16,
    consumer: u32,
    redelivered: bool,
    exchange: Vec<u8>,
    routing_key: Vec<u8>,
    deliveries: u32,
    parts: Option<Parts>,
    failure: Option<Error>,
    properties: Vec<u8>,
    body_left: u64,
}

/// What a `basic.deliver` says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Announcement<'a> {
    pub(super) delivery: u64,
    pub(super) queue: u16,
    pub(super) consumer: u32,
    pub(super) redelivered: bool,
    pub(super) exchange: &'a [u8],
    pub(super) routing_key: &'a [u8],
}

impl Assembly {
    pub(super) fn new(announced: Announcement<'_>) -> Self {
        Self {
            delivery: announced.delivery,
            queue: announced.queue,
            consumer: announced.consumer,
            redelivered: announced.redelivered,
            exchange: announced.exchange.to_vec(),
            routing_key: announced.routing_key.to_vec(),
            deliveries: 0,
            parts: None,
            failure: None,
            properties: Vec::new(),
            body_left: 0,
        }
    }

    /// Index of the queue it came from.
    pub(super) fn queue(&self) -> u16 {
        self.queue
    }

    /// Takes the content header; true if the message is complete with it.
    pub(super) fn on_header(&mut self, payload: &[u8], queue_name: &str, max_bytes: u64) -> Result<bool> {
        if self.parts.is_some() {
            return Err(Error::new(ErrorKind::Protocol, "amqp: two content headers for one message"));
        }
        let header = decode_header(payload)?;
        self.body_left = header.body_size;
        let mut parts = Parts::default();
        if header.body_size > max_bytes.min(u64::from(u32::MAX / 2)) {
            let text = format!("message of {} bytes exceeds the bound of {max_bytes} bytes", header.body_size);
            self.failure = Some(Error::new(ErrorKind::TooLarge, text));
        } else if let Err(error) = self.write_head(&header.properties, queue_name, &mut parts) {
            self.failure = Some(Error::new(ErrorKind::Malformed, error.message()));
        }
        if self.failure.is_some() {
            parts = Parts::default();
        } else {
            parts.buffer.reserve(header.body_size.min(RESERVE_MAX) as usize);
        }
        let start = parts.buffer.len();
        parts.body = (start, start);
        self.properties = payload[12..].to_vec();
        self.parts = Some(parts);
        Ok(self.body_left == 0)
    }

    fn write_head(&mut self, properties: &Properties<'_>, queue_name: &str, parts: &mut Parts) -> Result<()> {
        let buffer = &mut parts.buffer;
        buffer.reserve(properties.headers.map_or(0, |headers| headers.len() * 3 / 2) + 512);
        properties.write_headers_json(buffer)?;
        parts.headers = (0, buffer.len());
        let start = buffer.len();
        buffer.push(b'{');
        properties.write_json_members(buffer);
        self.write_delivery_info(queue_name, buffer);
        parts.properties = (start, buffer.len());
        for (text, place) in [
            (properties.content_type, &mut parts.content_type),
            (properties.content_encoding, &mut parts.content_encoding),
        ] {
            let start = buffer.len();
            buffer.extend_from_slice(text.unwrap_or_default());
            *place = (start, buffer.len());
        }
        if self.redelivered
            && let Some(headers) = properties.headers
        {
            self.deliveries = delivery_count(headers);
        }
        Ok(())
    }

    /// Ends the properties object.
    fn write_delivery_info(&self, queue_name: &str, buffer: &mut Vec<u8>) {
        let (mut exchange, mut routing_key) = (self.exchange.as_slice(), self.routing_key.as_slice());
        if exchange == DELAYED_DELIVERY && is_own_delay_key(routing_key) {
            // It waited in the delay levels at our instance: tasks see where it came from before that.
            (exchange, routing_key) = (b"", queue_name.as_bytes());
        }
        buffer.extend_from_slice(b"\"delivery_tag\": ");
        buffer.extend_from_slice(self.delivery.to_string().as_bytes());
        buffer.extend_from_slice(b", \"delivery_info\": {\"exchange\": ");
        escape_into(&String::from_utf8_lossy(exchange), buffer);
        buffer.extend_from_slice(b", \"routing_key\": ");
        escape_into(&String::from_utf8_lossy(routing_key), buffer);
        buffer.extend_from_slice(if self.redelivered {
            b", \"redelivered\": true}}"
        } else {
            b", \"redelivered\": false}}"
        });
    }

    /// Takes a piece of the body; true if the message is complete with it.
    pub(super) fn on_body(&mut self, payload: &[u8]) -> Result<bool> {
        let Some(parts) = &mut self.parts else {
            return Err(Error::new(ErrorKind::Protocol, "amqp: a body before its header"));
        };
        self.body_left = self
            .body_left
            .checked_sub(payload.len() as u64)
            .ok_or_else(|| Error::new(ErrorKind::Protocol, "amqp: a body longer than its header says"))?;
        if self.failure.is_none() {
            parts.buffer.extend_from_slice(payload);
        }
        Ok(self.body_left == 0)
    }

    /// The message; the caller knows that it is complete.
    pub(super) fn finish(self) -> Delivered {
        let mut parts = self.parts.unwrap_or_default();
        parts.body.1 = parts.buffer.len();
        let content = match self.failure {
            Some(error) => Err(Undecodable { error, raw: Vec::new() }),
            None => {
                let body = parts.body;
                parts.into_envelope().map_err(|(error, buffer)| Undecodable {
                    error,
                    raw: buffer.get(body.0..body.1).unwrap_or_default().to_vec(),
                })
            }
        };
        let mut hasher = DefaultHasher::new();
        self.queue.hash(&mut hasher);
        let mut properties = Vec::new();
        match &content {
            Ok(envelope) => {
                (envelope.id(), envelope.retries(), envelope.body().len()).hash(&mut hasher);
                if envelope.eta_s().is_some() {
                    properties = self.properties;
                }
            }
            Err(undecodable) => undecodable.raw.hash(&mut hasher),
        }
        Delivered {
            delivery: self.delivery,
            queue: self.queue,
            consumer: self.consumer,
            redelivered: self.redelivered,
            deliveries: self.deliveries,
            identity: hasher.finish(),
            content,
            properties,
        }
    }
}

/// A quorum queue's own count.
fn delivery_count(headers: &[u8]) -> u32 {
    let mut sized = (headers.len() as u32).to_be_bytes().to_vec();
    sized.extend_from_slice(headers);
    match FieldTable::decode(&mut Reader::new(&sized)).ok().as_ref().and_then(|table| table.get("x-delivery-count")) {
        Some(FieldValue::Integer(count)) => u32::try_from(*count).unwrap_or(0),
        _ => 0,
    }
}

/// The mark of keys under which we park messages.
pub(super) const DELAY_MARK: &str = "pyworker-";

fn is_own_delay_key(routing_key: &[u8]) -> bool {
    routing_key
        .split(|byte| *byte == b'.')
        .nth(DELAY_LEVELS)
        .is_some_and(|word| word.starts_with(DELAY_MARK.as_bytes()))
}

/// The key that keeps a message in the delay levels for a number of seconds.
pub(super) fn delay_key(seconds: u64, last_words: &str) -> String {
    let seconds = seconds.min((1 << DELAY_LEVELS) - 1);
    let mut key = String::with_capacity(2 * DELAY_LEVELS + last_words.len());
    for level in (0..DELAY_LEVELS).rev() {
        key.push_str(if seconds >> level & 1 == 1 { "1." } else { "0." });
    }
    key + last_words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn announced(routing_key: &[u8]) -> Announcement<'_> {
        Announcement { delivery: 1, queue: 0, consumer: 0, redelivered: true, exchange: b"", routing_key }
    }

    #[test]
    fn delay_keys_are_upstreams() {
        let key = delay_key(5, "pyworker-q");
        assert!(key.starts_with("0.0.0.0."));
        assert!(key.ends_with(".0.1.0.1.pyworker-q"));
        assert_eq!(key.split('.').count(), 29);
        assert!(is_own_delay_key(key.as_bytes()));
        assert!(!is_own_delay_key(b"celery"));
        assert_eq!(delay_key(u64::MAX, "q").matches('1').count(), 28);
    }

    proptest! {
        #[test]
        fn any_header_and_any_pieces_are_a_message_or_an_error(
            size in 0..40u64, flags in prop_oneof![Just(0), Just(1 << 13), any::<u16>()], rest: Vec<u8>,
            pieces in proptest::collection::vec(any::<Vec<u8>>(), 0..4), key: Vec<u8>,
        ) {
            let mut header = vec![0, 60, 0, 0];
            header.extend_from_slice(&size.to_be_bytes());
            header.extend_from_slice(&flags.to_be_bytes());
            header.extend_from_slice(&rest);
            let mut assembly = Assembly::new(announced(&key));
            prop_assert!(assembly.on_body(b"").is_err());
            let mut is_complete = assembly.on_header(&header, "q", 30);
            let mut got = 0;
            for piece in &pieces {
                if !matches!(is_complete, Ok(false)) {
                    break;
                }
                is_complete = assembly.on_body(piece);
                got += piece.len() as u64;
            }
            if matches!(is_complete, Ok(true)) {
                prop_assert_eq!(got, size);
                match assembly.finish().content {
                    Ok(envelope) => prop_assert_eq!(envelope.body().len() as u64, size),
                    Err(undecodable) => prop_assert!(size <= 30 || undecodable.error.kind() == ErrorKind::TooLarge),
                }
            }
        }
    }
}
