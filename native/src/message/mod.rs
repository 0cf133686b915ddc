//! The Celery message protocol, versions 1 and 2, without I/O.
//!
//! The engine reads only what scheduling needs; headers, properties and body travel on as bytes.
//! Source: Celery "Message Protocol", kombu's virtual transport envelope.

mod envelope;

pub use envelope::{Envelope, Part, Protocol, parse_envelope};
