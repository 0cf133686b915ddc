//! The engine: broker, pool and result store put together in one thread.

mod calls;
mod children;
pub mod command;
mod counters;
mod dispatch;
mod event_order;
pub mod events;
mod intake;
mod jobs;
mod lifecycle;
mod limits;
mod node;
pub mod notice;
pub mod operations;
mod outcomes;
mod pool_watch;
mod rates;
mod requests;
mod returned;
mod revoked;
mod shared;
mod telling;
mod wiring;
mod writes;

pub use node::Node;
pub use shared::Shared;
pub use wiring::build;
