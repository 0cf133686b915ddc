//! What the broker tests share: a private server, a plain client, and a loop that drives a broker.

pub mod driver;
pub mod message;
pub mod rabbitmq_client;
pub mod rabbitmq_server;
pub mod redis_client;
pub mod redis_server;
pub mod retries;
