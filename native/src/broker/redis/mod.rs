//! Redis (and Valkey) as a broker, in kombu's layout.

mod buffer;
pub(crate) mod connection;
pub(crate) mod handshake;
pub(crate) mod server_error;
mod socket;
