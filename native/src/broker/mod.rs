//! The broker seam: what the engine needs of a message broker, and nothing more.
//!
//! # Contract
//!
//! * A broker is driven by the engine's thread alone. It owns its sockets, registers them with the
//!   engine's poller under tokens of its own range, and never blocks in `drive`: a connection is opened
//!   by a short-lived thread that hands the socket back, commands are written and replies read as far
//!   as the sockets allow.
//! * A message is handed out once per lease. Between the broker's own copy disappearing and ours being
//!   registered there is no instant at which a crash loses it.
//! * A delivery is finished by exactly one `settle`. Settlements are applied in order; after a
//!   reconnect those that the server may not have seen are sent again, so they must be idempotent.
//! * After `Disconnected`, tags stay valid while the lease can be renewed; those that cannot are named
//!   in `LeaseLost`, and the engine must not start them.
//! * Order is the broker's own; the engine keeps what it gets in that order.
//!
//! The suite in `native/tests/broker_conformance.rs` is this contract as code; every native broker runs it.

mod adoption;
pub mod amqp;
pub mod kombu;
pub mod redis;
pub mod sqlite;

use std::fmt::Debug;

use mio::{Registry, Token};

use crate::clock::MonotonicNs;
use crate::config::amqp::{AmqpQueue, Declaration};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Envelope;

/// Names a delivery at its broker; unique for the life of the node.
pub type DeliveryTag = u64;

/// One message as a broker hands it to the engine.
#[derive(Debug)]
pub struct Incoming {
    /// Names the delivery in settlements.
    pub tag: DeliveryTag,
    /// Index into the configured queues.
    pub queue: u16,
    /// How often this message was handed out before, as far as the broker counts.
    pub deliveries: u32,
    /// The message; an undecodable one is kept as raw bytes with the reason.
    pub content: std::result::Result<Envelope, Undecodable>,
}

/// A message whose envelope could not be decoded.
#[derive(Debug)]
pub struct Undecodable {
    /// What was wrong and where.
    pub error: Error,
    /// The bytes as they came.
    pub raw: Vec<u8>,
}

/// What a broker tells the engine.
#[derive(Debug)]
pub enum BrokerEvent {
    /// Connected, declared, consuming.
    Connected,
    /// The connection is gone; the broker tries again by itself after `retry_in_s`, or not at all.
    Disconnected {
        /// Why.
        error: Error,
        /// Seconds until the next attempt, `None` when the broker has given up.
        retry_in_s: Option<f64>,
    },
    /// Messages, in order.
    Delivered(Vec<Incoming>),
    /// All leases held at `at_ns` were renewed.
    LeasesRenewed {
        /// Monotonic time at which the renewal was sent.
        at_ns: MonotonicNs,
    },
    /// These deliveries are no longer ours: another worker has or will have them.
    LeaseLost(Vec<DeliveryTag>),
    /// The server gave these deliveries back to their queues, because it lost the channel. What has not started
    /// must not start, and is settled with `Release`; a running one keeps its name and is settled as ever: the broker
    /// sees to it that the same message is not run here again.
    Returned(Vec<DeliveryTag>),
    /// A settlement was refused by the server for good.
    SettleFailed {
        /// The delivery.
        tag: DeliveryTag,
        /// Why.
        error: Error,
    },
    /// The broker works, but a promise does not hold on this server; said once for each connection.
    Degraded {
        /// Which promise and why, for the log.
        text: String,
    },
    /// A fan-out message (remote control) arrived: the exchange's name and the raw envelope.
    Broadcast {
        /// Index into the configured fan-out subscriptions.
        subscription: u16,
        /// The bytes as they came.
        raw: Vec<u8>,
    },
}

/// How a delivery ends, or what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Settlement {
    /// Finished: the broker forgets it.
    Ack,
    /// Refused for good: dropped, or dead-lettered where the broker can.
    Reject,
    /// Back to where the next consumer finds it first, counted as a delivery that came to nothing.
    Requeue,
    /// As `Requeue` for a message that no child has started: handing back what was reserved too far ahead,
    /// or stopping. Not counted, so that innocent messages never reach the limit of deliveries.
    Release,
    /// Not to be started before this wall-clock time; the lease is kept. The engine has dropped the
    /// message's bytes and asks for them with `recall`.
    Park {
        /// Seconds since the Unix epoch.
        until_s: f64,
    },
}

/// Poller tokens that belong to one component.
#[derive(Debug, Clone, Copy)]
pub struct TokenRange {
    /// The first token.
    pub first: usize,
    /// How many there are.
    pub count: usize,
}

impl TokenRange {
    /// The token at an index of this range.
    #[must_use]
    pub fn at(&self, index: usize) -> Token {
        debug_assert!(index < self.count);
        Token(self.first + index)
    }

    /// Which of this range's tokens this is, if it is one.
    #[must_use]
    pub fn index_of(&self, token: Token) -> Option<usize> {
        token.0.checked_sub(self.first).filter(|index| *index < self.count)
    }
}

/// Counters that a broker keeps; all only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BrokerCounters {
    /// Messages handed to the engine.
    pub delivered: u64,
    /// Settlements that the server confirmed.
    pub settled: u64,
    /// Messages handed back unstarted.
    pub requeued: u64,
    /// Deliveries that turned out to belong to somebody else.
    pub leases_lost: u64,
    /// Messages taken over from dead nodes.
    pub reclaimed: u64,
    /// Connections opened after the first.
    pub reconnects: u64,
    /// Round trips made.
    pub round_trips: u64,
}

/// A message broker, as the engine drives it. See the module's text for the contract.
pub trait Broker: Send + Debug {
    /// Begins to connect. Sockets are registered with `registry` under `tokens` from now on.
    fn start(&mut self, registry: &Registry, tokens: TokenRange, now_ns: MonotonicNs) -> Result<()>;

    /// Does all the I/O that is possible now. `ready` names the tokens of this broker's range that became
    /// ready since the last call; it may be empty when only time has passed or work was queued.
    fn drive(
        &mut self,
        registry: &Registry,
        ready: &[Token],
        now_ns: MonotonicNs,
        events: &mut Vec<BrokerEvent>,
    ) -> Result<()>;

    /// When `drive` wants to be called next although nothing became ready.
    fn deadline_ns(&self) -> Option<MonotonicNs>;

    /// How many messages the engine can take now, beyond those it holds. The broker fetches no more than
    /// that; zero pauses consuming.
    fn set_demand(&mut self, messages: u32);

    /// Queues the end of deliveries; written by the next `drive`.
    fn settle(&mut self, settlements: &[(DeliveryTag, Settlement)]);

    /// Asks for the bytes of deliveries that were settled as parked before; they come as `Delivered` under the same tags.
    fn recall(&mut self, tags: &[DeliveryTag]);

    /// Starts or stops consuming one of the configured queues.
    fn set_queue_active(&mut self, queue: u16, active: bool);

    /// Adds a queue while running and returns its index; it is active at once.
    ///
    /// # Errors
    ///
    /// This broker cannot, or has no room for another queue.
    fn add_queue(&mut self, name: &str) -> Result<u16> {
        Err(Error::new(ErrorKind::Config, format!("queue {name}: this broker cannot add queues while running")))
    }

    /// As `add_queue`, with what has to be declared for it; only RabbitMQ looks at more than the name.
    ///
    /// # Errors
    ///
    /// As `add_queue`.
    fn add_declared_queue(&mut self, queue: AmqpQueue, _declarations: Vec<Declaration>) -> Result<u16> {
        self.add_queue(&queue.name)
    }

    /// Until when unstarted deliveries may be started under the lease rule, monotonic.
    fn start_deadline_ns(&self) -> MonotonicNs;

    /// Settlements not yet confirmed by the server.
    fn pending_settlements(&self) -> usize;

    /// Whether an answer that may bring messages is on its way: then the engine waits awake for a moment.
    fn answer_is_near(&self) -> bool {
        false
    }

    /// The counters.
    fn counters(&self) -> BrokerCounters;

    /// Closes the sockets. What is still leased returns by lease expiry; the engine settles first.
    fn stop(&mut self, registry: &Registry);
}
