//! The native core of pyworker.
//!
//! Dependencies flow down: `py -> engine -> {broker, pool, results, publish} -> {wire, net, codec, message,
//! qos, eta} -> {error, clock, config}`. Only `py` knows that Python exists, so everything else builds
//! and tests with `--no-default-features`.

pub mod broker;
pub mod clock;
pub mod codec;
pub mod config;
pub mod delivery;
pub mod engine;
pub mod error;
pub mod eta;
pub mod message;
pub mod net;
pub mod pool;
pub mod probes;
pub mod publish;
pub mod qos;
pub mod results;
pub mod sqlite;
mod watch;
pub mod wire;

#[cfg(feature = "python")]
mod py;
