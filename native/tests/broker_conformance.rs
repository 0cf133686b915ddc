//! The broker contract as code. `exercise` is what every native broker must pass; what only one of them
//! promises follows in tests of its own.

#![allow(missing_docs, unreachable_pub, dead_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scenarios;
mod support;

mod amqp_broker;
mod redis_broker;
mod sqlite_broker;
