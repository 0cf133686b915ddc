//! The Celery message protocol, versions 1 and 2, without I/O.
//!
//! The engine reads only what scheduling needs; headers, properties and body travel on as bytes.
//! Source: Celery "Message Protocol", kombu's virtual transport envelope.

mod base64;
mod build;
mod envelope;
mod fields;
mod iso8601;
mod span;

pub use build::build_envelope;
pub use envelope::{Envelope, Parts, Protocol, parse_envelope};
pub use iso8601::parse_iso8601;

#[cfg(test)]
mod tests;
