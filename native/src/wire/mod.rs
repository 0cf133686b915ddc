//! Wire protocols, sans-I/O: bytes in, frames out. "Incomplete" is a value, not an error.

pub mod amqp;
pub mod resp;
