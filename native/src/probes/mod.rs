//! Probes and metrics: a local port with `/livez`, `/readyz` and `/metrics`, answered by a thread of its own from
//! figures that the engine's thread leaves in memory. Nobody is asked: it answers while every child is busy, while the
//! node is saturated and while Python does not move.

pub mod figures;
pub mod http;
pub mod server;
pub mod text;
mod turns;

pub use figures::Figures;
pub use server::{ProbeServer, bind};
