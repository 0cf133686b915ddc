//! The contract on a real RabbitMQ node, classic and quorum queues, and what only RabbitMQ promises.
//!
//! A node takes seconds to start, so everything runs on one, one after the other.

mod channels;
mod own;
mod versions;

use std::collections::BTreeSet;
use std::sync::Arc;

use pyworker_native::broker::Broker;
use pyworker_native::broker::amqp::{AmqpBroker, Patience};
use pyworker_native::clock::SystemClock;
use pyworker_native::config::amqp::{AmqpAddress, AmqpBrokerConfig, AmqpQueue, Failover};

use crate::scenarios::{BrokerFactory, Setup, exercise_but};
use crate::support::rabbitmq_client::{RabbitmqClient, durable};
use crate::support::rabbitmq_server::RabbitmqServer;
use crate::support::retries;

/// A message's place is its own promise here: RabbitMQ has no leases, pushes ahead of the demand, and hands
/// everything out again when a connection is lost.
const NOT_PROMISED: &[&str] = &[
    "urgent messages come first",
    "queues take turns",
    "the configured order is kept",
    "settled messages are gone",
    "a returned message is first again",
    "returns are counted",
    "parked messages are recalled",
    "leases are renewed",
    "a lost lease is reported",
    "the messages of the dead return",
    "a node that slept learns what it lost",
    "work goes on after a restart",
    "settlements survive a restart",
];

/// Brokers on one node, with queues of one kind.
#[derive(Debug)]
pub struct RabbitmqFactory {
    pub server: RabbitmqServer,
    pub arguments: &'static str,
    client: RabbitmqClient,
    queues: BTreeSet<String>,
    published: usize,
}

impl RabbitmqFactory {
    fn new(server: RabbitmqServer, arguments: &'static str) -> Self {
        let client = RabbitmqClient::new(server.address());
        Self { server, arguments, client, queues: BTreeSet::new(), published: 0 }
    }

    fn declare(&mut self, queue: &str) {
        if self.queues.insert(queue.to_owned()) {
            self.client.declare(queue, self.arguments);
        }
    }

    pub fn config(&mut self, setup: &Setup) -> AmqpBrokerConfig {
        AmqpBrokerConfig {
            addresses: vec![AmqpAddress { connection_name: setup.owner.clone(), ..self.server.address() }],
            failover: Failover::RoundRobin,
            queues: setup
                .queues
                .iter()
                .map(|name| AmqpQueue {
                    name: name.clone(),
                    no_ack: false,
                    arguments: Vec::new(),
                    delay_key: Some(format!("pyworker-{name}")),
                })
                .collect(),
            declarations: setup.queues.iter().map(|name| durable(name, self.arguments)).collect(),
            delay_declarations: own::delay_levels(&setup.queues),
            retry: retries::after_a_minute(),
            max_message_bytes: 512 << 20,
        }
    }

    pub fn publish_scheduled(&mut self, queue: &str, id: &str, eta: &str) {
        self.declare(queue);
        self.client.publish(queue, id, 9, Some(eta));
    }
}

pub fn make(config: AmqpBrokerConfig) -> Box<dyn Broker> {
    Box::new(AmqpBroker::new(config, Patience::default(), Arc::new(SystemClock)).expect("the configuration is sound"))
}

impl BrokerFactory for RabbitmqFactory {
    fn broker(&mut self, setup: &Setup) -> Box<dyn Broker> {
        self.queues.extend(setup.queues.iter().cloned());
        make(self.config(setup))
    }

    fn publish(&mut self, queue: &str, id: &str, priority: u8) {
        self.declare(queue);
        self.published += 1;
        // The scenarios count as Redis does, where zero is first.
        self.client.publish(queue, id, 9 - priority, None);
    }

    fn waiting(&mut self, queue: &str) -> usize {
        self.client.waiting(queue)
    }

    /// What was published and is neither in a queue nor, in the scenarios that ask, settled.
    fn held(&mut self) -> usize {
        let queues: Vec<String> = self.queues.iter().cloned().collect();
        self.published - queues.iter().map(|queue| self.client.waiting(queue)).sum::<usize>()
    }

    fn take_server_away(&mut self) {
        self.server.stop();
    }

    fn bring_server_back(&mut self) {
        self.server.start_again();
    }

    fn bury(&mut self, _owner: &str) {
        unreachable!("RabbitMQ notices a dead node by itself");
    }

    fn steal_leases(&mut self) {
        unreachable!("there are no leases");
    }

    fn wipe(&mut self) {
        for queue in std::mem::take(&mut self.queues) {
            self.client.delete(&queue);
        }
        self.client = RabbitmqClient::new(self.server.address());
        self.published = 0;
    }
}

#[test]
fn rabbitmq_keeps_the_contract() {
    let mut factory = RabbitmqFactory::new(RabbitmqServer::start(), r#"{"x-max-priority": 9}"#);
    exercise_but(&mut factory, NOT_PROMISED);
    own::exercise(&mut factory);
    own::priorities(&mut factory);
    channels::exercise(&mut factory);
    // Quorum queues have no priorities, and a node of this age moves thousands of them slowly.
    factory.wipe();
    factory.arguments = r#"{"x-queue-type": "quorum"}"#;
    let too_many = ["many queues are read", "messages come in the order published"];
    exercise_but(&mut factory, &[NOT_PROMISED, &too_many].concat());
    own::exercise(&mut factory);
    own::counts(&mut factory);
}
