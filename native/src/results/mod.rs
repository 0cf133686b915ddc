//! The result store seam: ordered, coalesced writes of task results.
//!
//! # Contract
//!
//! * Writes of one key are applied in the order they were queued.
//! * A stored SUCCESS is never overwritten by a `protected` write.
//! * Every write ends in exactly one `StoreEvent` under its token, after the server confirmed or refused
//!   it. Writes whose confirmation was lost with a connection are sent again.
//! * Driven by the engine's thread alone; `drive` never blocks.

pub mod amqp;
mod attempts;
pub mod redis;
pub mod replies;
pub mod sqlite;
pub mod subscription;

use std::fmt::Debug;

use mio::{Registry, Token};

use crate::broker::TokenRange;
use crate::clock::MonotonicNs;
use crate::error::{Error, Result};

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultWrite {
    /// Comes back in the `StoreEvent`.
    pub token: u64,
    /// The full key (`celery-task-meta-<id>` with whatever prefix is configured).
    pub key: Box<[u8]>,
    /// The encoded meta.
    pub value: Box<[u8]>,
    /// Whether the meta says SUCCESS: such a value is not replaced by a protected write.
    pub is_success: bool,
    /// Whether this write must respect a stored SUCCESS (Celery's rule for every state).
    pub protected: bool,
}

/// The end of one write.
#[derive(Debug)]
pub enum StoreEvent {
    /// The server has it (or already had a SUCCESS that stays).
    Stored {
        /// The write's token.
        token: u64,
    },
    /// It was refused and will not be tried again.
    Failed {
        /// The write's token.
        token: u64,
        /// Why.
        error: Error,
    },
    /// The store is unreachable; writes are kept and tried again.
    Disconnected {
        /// Why.
        error: Error,
        /// Seconds until the next attempt.
        retry_in_s: f64,
    },
    /// The store is reachable and refuses writes for now (a full server); said at the first refusal in a row.
    Refused {
        /// Why.
        error: Error,
        /// Seconds until the next attempt.
        retry_in_s: f64,
    },
    /// The store is unreachable, nothing is queued, and nothing is tried until the next write.
    GaveUp {
        /// Why.
        error: Error,
    },
    /// Reachable again.
    Connected,
}

/// A result store, as the engine drives it.
pub trait ResultStore: Send + Debug {
    /// Begins to connect.
    fn start(&mut self, registry: &Registry, tokens: TokenRange, now_ns: MonotonicNs) -> Result<()>;

    /// Queues a write.
    fn put(&mut self, write: ResultWrite);

    /// Does all the I/O that is possible now.
    fn drive(
        &mut self,
        registry: &Registry,
        ready: &[Token],
        now_ns: MonotonicNs,
        events: &mut Vec<StoreEvent>,
    ) -> Result<()>;

    /// When `drive` wants to be called next although nothing became ready.
    fn deadline_ns(&self) -> Option<MonotonicNs>;

    /// Writes not yet confirmed.
    fn pending(&self) -> usize;

    /// Closes the sockets.
    fn stop(&mut self, registry: &Registry);
}
