//! Publishing task messages from any thread of any process, blocking.
//!
//! A publisher is a small pool of connections behind a lock that is held only to take or return one. It
//! survives forks: what a child inherits is closed there without a word to the server and never used.

pub mod amqp;
pub(crate) mod connection;
pub(crate) mod per_process;
mod pool;
mod queue_key;
mod redis;
mod series;

pub use redis::{Outgoing, PublisherOptions, RedisPublisher};
pub use series::{Scalar, SeriesParts, SeriesWriter, uuid_texts};
