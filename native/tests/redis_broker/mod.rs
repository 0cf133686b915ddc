//! The contract on a real Redis server, and what only Redis promises.

mod limits;
mod order;
mod tcp;

use std::sync::Arc;

use pyworker_native::broker::Broker;
use pyworker_native::broker::redis::RedisBroker;
use pyworker_native::clock::SystemClock;
use pyworker_native::config::{QueueOrder, RedisBrokerConfig};

use crate::scenarios::{BrokerFactory, Setup, exercise};
use crate::support::message::envelope;
use crate::support::redis_client::RedisClient;
use crate::support::redis_server::RedisServer;
use crate::support::retries;

pub const SEPARATOR: &str = "\u{6}\u{16}";
pub const STEPS: [u8; 4] = [0, 3, 6, 9];

/// Brokers on one private server, optionally below a key prefix.
#[derive(Debug)]
pub struct RedisFactory {
    pub server: RedisServer,
    pub prefix: String,
}

impl RedisFactory {
    pub fn new(prefix: &str) -> Self {
        Self { server: RedisServer::start(&[]), prefix: prefix.to_owned() }
    }

    pub fn config(&self, setup: &Setup) -> RedisBrokerConfig {
        RedisBrokerConfig {
            address: self.server.address(),
            queues: setup.queues.clone(),
            priority_steps: STEPS.to_vec(),
            separator: SEPARATOR.to_owned(),
            global_keyprefix: self.prefix.clone(),
            queue_order: if setup.round_robin { QueueOrder::RoundRobin } else { QueueOrder::Priority },
            visibility_timeout_s: setup.visibility_timeout_s,
            unacked_key: "unacked".into(),
            unacked_index_key: "unacked_index".into(),
            owner: setup.owner.clone(),
            retry: retries::soon(),
            max_message_bytes: 512 << 20,
        }
    }

    pub fn key(&self, name: &str) -> Vec<u8> {
        format!("{}{name}", self.prefix).into_bytes()
    }

    pub fn list(&self, queue: &str, priority: u8) -> Vec<u8> {
        let step = STEPS.iter().rev().find(|step| **step <= priority).unwrap();
        if *step == 0 { self.key(queue) } else { self.key(&format!("{queue}{SEPARATOR}{step}")) }
    }

    pub fn client(&self) -> RedisClient {
        self.server.client()
    }
}

pub fn make(config: RedisBrokerConfig) -> Box<dyn Broker> {
    Box::new(RedisBroker::new(config, Arc::new(SystemClock)))
}

impl BrokerFactory for RedisFactory {
    fn broker(&mut self, setup: &Setup) -> Box<dyn Broker> {
        make(self.config(setup))
    }

    fn publish(&mut self, queue: &str, id: &str, priority: u8) {
        let list = self.list(queue, priority);
        self.client().ok(&[b"LPUSH".as_slice(), &list, &envelope(id, priority)]);
    }

    fn waiting(&mut self, queue: &str) -> usize {
        let mut client = self.client();
        STEPS.iter().map(|step| client.integer(&[b"LLEN".as_slice(), &self.list(queue, *step)]) as usize).sum()
    }

    fn held(&mut self) -> usize {
        let mut client = self.client();
        let entries = client.integer(&[b"HLEN".as_slice(), &self.key("unacked")]);
        assert_eq!(entries, client.integer(&[b"ZCARD".as_slice(), &self.key("unacked_index")]));
        entries as usize
    }

    fn take_server_away(&mut self) {
        self.server.stop();
    }

    fn bring_server_back(&mut self) {
        self.server.start_again();
    }

    fn bury(&mut self, owner: &str) {
        self.client().ok(&[b"ZADD".as_slice(), &self.key("pyworker:nodes"), b"XX", b"1", owner.as_bytes()]);
    }

    fn steal_leases(&mut self) {
        self.client().ok(&[b"DEL".as_slice(), &self.key("unacked"), &self.key("unacked_index")]);
    }

    fn wipe(&mut self) {
        self.client().ok(&[b"FLUSHALL"]);
    }
}

#[test]
fn redis_keeps_the_contract() {
    exercise(&mut RedisFactory::new(""));
}

#[test]
fn redis_keeps_the_contract_below_a_prefix() {
    exercise(&mut RedisFactory::new("some{where}:"));
}
