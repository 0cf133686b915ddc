//! The embedded file: broker and result store in one SQLite database, for the processes of one machine.
//!
//! ```text
//!  publishers --(transaction)--> messages + ready/later --(fetch)--> held --(ack)--> gone
//!      |                                 ^                            |
//!      '--- rings the bell (bell.rs)     '------ requeue, reclaim ----'
//! ```
//!
//! * `place.rs`, `schema.rs`: what is checked before anything is done with a file; the tables and their version;
//! * `database.rs`: one connection and its transactions;
//! * `messages.rs`, `nodes.rs`, `consuming.rs`, `results.rs`, `exchanges.rs`: what is done inside a transaction;
//! * `bell.rs`: waking other processes; `liveness.rs`: knowing that one is gone; both in `side_file.rs`;
//! * `fork.rs`: why a fork does no harm;
//! * `side_clock.rs`: a clock that tests move ahead, for files that are not durable;
//! * `session.rs`: the thread that owns the connection of a node, for the broker and the result store;
//! * `client.rs`: the blocking handle of everybody else.

pub(crate) mod bell;
pub mod chords;
pub mod client;
pub mod consumer;
pub(crate) mod consuming;
pub(crate) mod database;
pub mod exchanges;
pub(crate) mod fork;
pub(crate) mod liveness;
pub mod maintenance;
pub(crate) mod messages;
pub(crate) mod nodes;
pub(crate) mod place;
pub(crate) mod results;
pub(crate) mod schema;
mod serving;
pub(crate) mod session;
pub mod side_clock;
pub(crate) mod side_file;

use std::path::PathBuf;

pub use self::bell::Word;

use crate::config::{QueueOrder, RetryPolicy};

/// Where a file is and how safely it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteAddress {
    /// The database file; its folder must exist.
    pub path: PathBuf,
    /// Whether a commit waits for the disk. Without it a power cut may take the last seconds; a crash of processes
    /// takes nothing either way.
    pub durable: bool,
    /// How long a transaction waits for others before it counts as refused, in milliseconds.
    pub busy_timeout_ms: u32,
}

/// The SQLite broker.
#[derive(Debug, Clone, PartialEq)]
pub struct SqliteBrokerConfig {
    /// The file.
    pub address: SqliteAddress,
    /// Queue names.
    pub queues: Vec<String>,
    /// Priorities are rounded down to one of these; the first is the most urgent.
    pub priority_steps: Vec<u8>,
    /// Reading order.
    pub queue_order: QueueOrder,
    /// Bound of the time after which others take over what a silent node holds.
    pub visibility_timeout_s: f64,
    /// Names this node; unique per process.
    pub owner: String,
    /// Retry rule for a file that cannot be opened or written.
    pub retry: RetryPolicy,
    /// A message larger than this is undecodable.
    pub max_message_bytes: u64,
}

/// Results in a SQLite file.
#[derive(Debug, Clone, PartialEq)]
pub struct SqliteResultConfig {
    /// The file.
    pub address: SqliteAddress,
    /// Seconds after which a result disappears; `None` keeps it.
    pub expires_s: Option<u64>,
    /// Retry rule for a file that cannot be opened or written.
    pub retry: RetryPolicy,
}
