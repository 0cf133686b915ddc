//! What lies between a connection's bytes and its socket: TLS, and the settings that say how to get there.

pub(crate) mod roots;
pub mod settings;
pub(crate) mod tls;
pub(crate) mod tls_stream;
pub(crate) mod verify;
