//! Messages that must not start yet.
//!
//! The engine forgets a scheduled message's bytes; they are kept here. What is more than half a minute away does not
//! stay: it is published to the delay levels of the server (`celery_delayed_N`), and when that is confirmed the
//! delivery is acknowledged, so that it neither fills memory nor counts against the prefetch or the server's consumer
//! timeout.

use std::collections::HashMap;

use mio::{Registry, Token};

use super::assembly::delay_key;
use crate::broker::{DeliveryTag, Incoming};
use crate::clock::MonotonicNs;
use crate::config::amqp::AmqpBrokerConfig;
use crate::error::{Error, Result};
use crate::message::Envelope;
use crate::publish::amqp::{AmqpMessage, Courier, Parcel, Route};
use crate::wire::amqp::{Properties, decode_header};

/// Where every delayed message begins.
const FIRST_LEVEL: &str = "celery_delayed_27";
/// Further away than this, a message waits in the server.
const HERE_S: f64 = 30.0;
/// After a failure the delay levels are left alone for this long.
const SULK_NS: MonotonicNs = 60_000_000_000;

/// A message that may have to wait.
#[derive(Debug)]
pub(super) struct Kept {
    queue: u16,
    deliveries: u32,
    envelope: Envelope,
    /// Encoded flags and properties, as they came.
    properties: Vec<u8>,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Parking {
    kept: HashMap<DeliveryTag, Kept>,
    /// By queue: the key's last words, where the delay levels lead back to it.
    delay_keys: Vec<Option<String>>,
    courier: Courier,
    parcels: Vec<Parcel>,
    sulks_until_ns: MonotonicNs,
}

impl Parking {
    pub(super) fn new(config: &AmqpBrokerConfig) -> Self {
        Self {
            kept: HashMap::new(),
            delay_keys: config.queues.iter().map(|queue| queue.delay_key.clone()).collect(),
            courier: Courier::new(
                "parking",
                Route {
                    addresses: config.addresses.clone(),
                    declarations: config.delay_declarations.clone(),
                    exchange: FIRST_LEVEL,
                    mandatory: true,
                },
            ),
            parcels: Vec::new(),
            sulks_until_ns: 0,
        }
    }

    /// A further queue, the last by index.
    pub(super) fn add_queue(&mut self, delay_key: Option<String>) {
        self.delay_keys.push(delay_key);
    }

    /// Keeps what the engine may ask to park. `head` is the content header's part after the body's size.
    pub(super) fn keep(&mut self, tag: DeliveryTag, queue: u16, deliveries: u32, envelope: &Envelope, head: Vec<u8>) {
        self.kept.insert(tag, Kept { queue, deliveries, envelope: envelope.clone(), properties: head });
    }

    /// A delivery ended, or went back.
    pub(super) fn forget(&mut self, tag: DeliveryTag) {
        self.kept.remove(&tag);
    }

    /// The engine waits until a wall-clock time. False if the message is not kept here.
    pub(super) fn park(&mut self, tag: DeliveryTag, until_s: f64, now_s: f64, now_ns: MonotonicNs) -> bool {
        let Some(kept) = self.kept.get(&tag) else { return false };
        let left_s = until_s - now_s;
        let key = self.delay_keys.get(usize::from(kept.queue)).and_then(Option::as_ref);
        if let Some(last_words) = key
            && left_s > HERE_S
            && now_ns >= self.sulks_until_ns
            && let Ok(message) = republished(kept)
        {
            let routing_key = delay_key(left_s.ceil() as u64, last_words);
            self.parcels.push(Parcel { tag, routing_key, message });
        }
        true
    }

    /// The time of these has come: they are delivered again under their names.
    pub(super) fn recall(&mut self, tags: &[DeliveryTag]) -> Vec<Incoming> {
        let recalled = tags.iter().filter_map(|tag| {
            let kept = self.kept.remove(tag)?;
            Some(Incoming { tag: *tag, queue: kept.queue, deliveries: kept.deliveries, content: Ok(kept.envelope) })
        });
        recalled.collect()
    }

    /// Sends what is to be parked at the server, and takes what is. `on_parked` gets the names; an error comes back
    /// once and leaves its messages here.
    pub(super) fn drive(
        &mut self,
        registry: &Registry,
        token: Token,
        now_ns: MonotonicNs,
        mut on_parked: impl FnMut(DeliveryTag),
    ) -> Option<Error> {
        let mut failure = None;
        for (parcels, outcome) in self.courier.outcomes() {
            match outcome {
                Ok(()) => {
                    for Parcel { tag, .. } in parcels {
                        if self.kept.remove(&tag).is_some() {
                            on_parked(tag);
                        }
                    }
                }
                Err(error) => {
                    self.sulks_until_ns = now_ns + SULK_NS;
                    failure = Some(error);
                }
            }
        }
        let parcels = std::mem::take(&mut self.parcels);
        if !parcels.is_empty()
            && let Err(error) = self.courier.submit(registry, token, parcels)
        {
            self.sulks_until_ns = now_ns + SULK_NS;
            failure = Some(error);
        }
        failure
    }

    /// Whether `drive` has something to send.
    pub(super) fn has_unsent(&self) -> bool {
        !self.parcels.is_empty()
    }

    /// The channel is gone, and every message with it.
    pub(super) fn clear(&mut self) {
        self.kept.clear();
        self.parcels.clear();
    }
}

/// The message as it is published again. A time to live would end it in the first delay level, from where it would
/// go on at once; the message's own `expires` header still holds.
fn republished(kept: &Kept) -> Result<Vec<u8>> {
    let mut header = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header.extend_from_slice(&kept.properties);
    let properties = Properties { expiration: None, ..decode_header(&header)?.properties };
    let mut message = vec![0; 4];
    properties.encode(&mut message);
    let size = (message.len() - 4) as u32;
    message[..4].copy_from_slice(&size.to_be_bytes());
    message.extend_from_slice(kept.envelope.body());
    debug_assert!(AmqpMessage::parse(&message).is_ok());
    Ok(message)
}
