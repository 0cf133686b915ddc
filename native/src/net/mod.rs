//! What lies between a connection's bytes and its server: how to get there, the sockets, TLS.

pub(crate) mod dialing;
pub(crate) mod opening;
pub(crate) mod raw_socket;
pub(crate) mod roots;
pub mod settings;
pub(crate) mod socket;
pub(crate) mod tls;
pub(crate) mod tls_stream;
pub(crate) mod verify;
