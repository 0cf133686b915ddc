//! RESP, the protocol of Redis and its relatives, sans-I/O.
//!
//! Reads RESP3 and RESP2 (the second is nearly a subset of the first), writes commands as arrays of bulk
//! strings. [`decode`] is stateless; [`FrameScanner`] finds the end of a frame that arrives in pieces
//! without looking at any byte of a payload twice.
//!
//! Source: the RESP3 specification of the Redis project. Streamed strings and aggregates (`$?`, `*?`)
//! are refused: no server sends them.

mod command;
mod decode;
mod frame;
mod header;
mod scan;
#[cfg(test)]
mod tests;

pub use command::{CommandWriter, write_command};
pub use decode::decode;
pub use frame::Frame;
pub use header::Limits;
pub use scan::FrameScanner;
