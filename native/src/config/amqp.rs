//! Where RabbitMQ is and what is declared there. Arguments are JSON objects, as Python wrote them.

use super::RetryPolicy;
use crate::error::{Error, ErrorKind, Result};
use crate::net::settings::{CredentialSource, TlsSettings};

/// One server of the failover list.
#[derive(Debug, Clone, PartialEq)]
pub struct AmqpAddress {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The virtual host.
    pub virtual_host: String,
    /// User.
    pub username: String,
    /// Password.
    pub password: String,
    /// `PLAIN`, `AMQPLAIN` or `EXTERNAL`.
    pub login_method: String,
    /// Limit for opening a connection, handshake included.
    pub connect_timeout_s: f64,
    /// Wanted heartbeat; 0 is off, the smaller of ours and the server's counts.
    pub heartbeat_s: u16,
    /// Name shown in the server's lists.
    pub connection_name: String,
    /// Encrypts the connection.
    pub tls: Option<TlsSettings>,
    /// Gives user and password at each connection, instead of those above.
    pub credential_source: Option<CredentialSource>,
}

/// How a failover list is used (`broker_failover_strategy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failover {
    /// In order, over and over.
    RoundRobin,
    /// In random order, over and over.
    Shuffle,
}

/// A queue to consume from.
#[derive(Debug, Clone, PartialEq)]
pub struct AmqpQueue {
    /// Its name.
    pub name: String,
    /// Messages count as acknowledged when they are sent.
    pub no_ack: bool,
    /// Arguments of `basic.consume`.
    pub arguments: Vec<u8>,
    /// The last words of the key under which the delay levels lead back to this queue; `None` holds every ETA here.
    pub delay_key: Option<String>,
}

/// What is declared before consuming, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Declaration {
    /// An exchange.
    Exchange {
        /// Its name.
        name: String,
        /// Its type.
        kind: String,
        /// Only ask whether it is there.
        passive: bool,
        /// Survives a restart.
        durable: bool,
        /// Goes with its last binding.
        auto_delete: bool,
        /// Arguments.
        arguments: Vec<u8>,
    },
    /// A queue.
    Queue {
        /// Its name.
        name: String,
        /// Only ask whether it is there.
        passive: bool,
        /// Survives a restart.
        durable: bool,
        /// Of this connection alone.
        exclusive: bool,
        /// Goes with its last consumer.
        auto_delete: bool,
        /// Arguments.
        arguments: Vec<u8>,
    },
    /// A queue's binding.
    QueueBinding {
        /// The queue.
        queue: String,
        /// The exchange.
        exchange: String,
        /// The key.
        routing_key: String,
        /// Arguments.
        arguments: Vec<u8>,
    },
    /// An exchange's binding.
    ExchangeBinding {
        /// The exchange that gets the messages.
        destination: String,
        /// The exchange that they come from.
        source: String,
        /// The key.
        routing_key: String,
        /// Arguments.
        arguments: Vec<u8>,
    },
}

/// RabbitMQ as the broker.
#[derive(Debug, Clone, PartialEq)]
pub struct AmqpBrokerConfig {
    /// The servers, tried in order.
    pub addresses: Vec<AmqpAddress>,
    /// How the list is used.
    pub failover: Failover,
    /// The queues to consume from.
    pub queues: Vec<AmqpQueue>,
    /// Declared on every connection before consuming.
    pub declarations: Vec<Declaration>,
    /// The delay levels, declared when the first message is parked there.
    pub delay_declarations: Vec<Declaration>,
    /// Retry rule of the connection.
    pub retry: RetryPolicy,
    /// A message larger than this is undecodable.
    pub max_message_bytes: u64,
}

/// Results as messages to the reply queues of clients (`rpc://`).
#[derive(Debug, Clone, PartialEq)]
pub struct AmqpResultConfig {
    /// The servers, tried in order.
    pub addresses: Vec<AmqpAddress>,
    /// When to try again, and when to give up.
    pub retry: RetryPolicy,
}

impl AmqpBrokerConfig {
    /// Checks what no type can express; the error names the field.
    pub fn validate(&self) -> Result<()> {
        let fail = |text: String| Err(Error::new(ErrorKind::Config, text));
        if self.addresses.is_empty() {
            return fail("broker_url: at least one server is needed".into());
        }
        for address in &self.addresses {
            address.validate()?;
        }
        if self.queues.is_empty() {
            return fail("queues: at least one queue is needed".into());
        }
        if self.queues.len() > usize::from(u16::MAX) {
            return fail("queues: more than 65535 queues".into());
        }
        let long = self.queues.iter().find(|queue| queue.name.len() > 255);
        if let Some(queue) = long {
            return fail(format!("queues: the name {:?} is longer than AMQP's 255 bytes", queue.name));
        }
        Ok(())
    }
}

impl AmqpAddress {
    /// Checks the address; the error names the setting.
    pub fn validate(&self) -> Result<()> {
        if !matches!(self.login_method.as_str(), "PLAIN" | "AMQPLAIN" | "EXTERNAL") {
            let text = format!("broker_login_method: {:?}; use PLAIN, AMQPLAIN or EXTERNAL", self.login_method);
            return Err(Error::new(ErrorKind::Config, text));
        }
        if self.virtual_host.len() > 255 {
            return Err(Error::new(ErrorKind::Config, "broker_vhost: longer than AMQP's 255 bytes"));
        }
        Ok(())
    }
}
