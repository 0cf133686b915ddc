//! Publishing to RabbitMQ: every message is confirmed by the server, or the publish fails.
//!
//! Messages are written ahead of their confirmations, so a batch costs little more than its bytes. A server that
//! blocks publishers, is gone, or has no queue for a mandatory message is an error within the time limit, never
//! silence.

mod connection;
mod courier;
mod message;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub use self::connection::ConfirmedConnection;
pub(crate) use self::courier::{Courier, Parcel, Route};
pub use self::message::{AmqpMessage, build_message};
use super::per_process::PerProcess;
use crate::config::amqp::{AmqpAddress, Declaration};
use crate::error::{Error, ErrorKind, Result};

/// One message and where it goes.
#[derive(Debug, Clone, Copy)]
pub struct AmqpOutgoing<'a> {
    /// The exchange; empty is the default one, whose keys are queue names.
    pub exchange: &'a str,
    /// The key.
    pub routing_key: &'a str,
    /// Whether it is an error if no queue takes the message.
    pub mandatory: bool,
    /// What `build_message` made.
    pub message: &'a [u8],
}

/// How to publish.
#[derive(Debug, Clone)]
pub struct AmqpPublisherOptions {
    /// The servers, tried in order.
    pub addresses: Vec<AmqpAddress>,
    /// Whether to wait for the server's confirmations.
    pub confirm: bool,
    /// How long nothing may move before a publish fails.
    pub timeout_s: f64,
    /// Connections kept open.
    pub max_idle: usize,
}

/// Publishes for one process and the ones forked from it; safe across threads.
#[derive(Debug)]
pub struct AmqpPublisher {
    options: AmqpPublisherOptions,
    idle: PerProcess<Mutex<Idle>>,
}

#[derive(Debug, Default)]
struct Idle {
    connections: Vec<ConfirmedConnection>,
    declared: Vec<Declaration>,
}

impl AmqpPublisher {
    /// Checks the options; connects when something is published.
    pub fn new(options: AmqpPublisherOptions) -> Result<Self> {
        if options.addresses.is_empty() {
            return Err(Error::new(ErrorKind::Config, "broker_url: at least one server is needed"));
        }
        options.addresses.iter().try_for_each(AmqpAddress::validate)?;
        Ok(Self { options, idle: PerProcess::new(Mutex::default()) })
    }

    /// Publishes many messages. An error names how many were confirmed.
    ///
    /// `first` is declared right before them, without a wait of its own: what may be gone whenever nobody uses it.
    pub fn publish_many(&self, outgoing: &[AmqpOutgoing<'_>], first: Option<&Declaration>) -> Result<()> {
        let (mut connection, reused) = self.take()?;
        let mut outcome = connection.publish(outgoing, first);
        if reused && outcome.as_ref().is_err_and(|failure| !failure.maybe_sent) {
            // It had been closed while nobody used it, and nothing left this process.
            connection = self.open()?;
            outcome = connection.publish(outgoing, first);
        }
        match outcome {
            Ok(()) => {
                self.keep(connection);
                Ok(())
            }
            Err(failure) => {
                if failure.is_usable {
                    self.keep(connection);
                }
                Err(failure.error)
            }
        }
    }

    /// Declares now, and on every connection that this process opens later.
    pub fn declare(&self, declarations: &[Declaration]) -> Result<()> {
        let missing: Vec<Declaration> = {
            let idle = self.idle();
            declarations.iter().filter(|one| !idle.declared.contains(one)).cloned().collect()
        };
        if missing.is_empty() {
            return Ok(());
        }
        let (mut connection, reused) = self.take()?;
        if let Err(error) = connection.declare(&missing) {
            if !reused || !error.is_retryable() {
                return Err(error);
            }
            connection = self.open()?;
            connection.declare(&missing)?;
        }
        self.idle().declared.extend(missing);
        self.keep(connection);
        Ok(())
    }

    /// Closes the connections that are not in use.
    pub fn close(&self) {
        self.idle().connections.clear();
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Idle> {
        let mutex = self.idle.get(Mutex::default, |inherited| {
            // The sockets of a parent are closed here without a word to the server; theirs stay open.
            if let Ok(mut inherited) = inherited.try_lock() {
                inherited.connections.iter_mut().for_each(ConfirmedConnection::forget);
            }
        });
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Result<(ConfirmedConnection, bool)> {
        loop {
            let connection = self.idle().connections.pop();
            let Some(mut connection) = connection else { return Ok((self.open()?, false)) };
            if connection.is_alive() {
                return Ok((connection, true));
            }
        }
    }

    fn open(&self) -> Result<ConfirmedConnection> {
        let timeout = Duration::from_secs_f64(self.options.timeout_s.clamp(0.001, 86_400.0));
        let mut failure = Error::new(ErrorKind::Config, "broker_url: at least one server is needed");
        for address in &self.options.addresses {
            match ConfirmedConnection::open(address, self.options.confirm, timeout) {
                Ok(mut connection) => {
                    let declared = self.idle().declared.clone();
                    connection.declare(&declared)?;
                    return Ok(connection);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn keep(&self, connection: ConfirmedConnection) {
        let mut idle = self.idle();
        if idle.connections.len() < self.options.max_idle {
            idle.connections.push(connection);
        }
    }
}
