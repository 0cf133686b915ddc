//! From one stage to the next: opening, declaring, losing a channel or the connection, and coming back.

use mio::Registry;

use super::consumers::CHANNEL;
use super::handshake::ServerInfo;
use super::patience::takes_argument;
use super::reconnect::PROBE_INTERVAL_NS;
use super::topology::write_declaration;
use super::{AmqpBroker, DECLARING, REOPEN_FIRST_NS, Stage};
use crate::broker::BrokerEvent;
use crate::clock::MonotonicNs;
use crate::error::{Error, ErrorKind, Result};
use crate::wire::amqp::write_channel_open;

/// The longest pause before a closed channel is opened again.
const REOPEN_MAX_NS: MonotonicNs = 5_000_000_000;

impl AmqpBroker {
    pub(super) fn open(&mut self, registry: &Registry, now_ns: MonotonicNs) -> Result<()> {
        let address = self.reconnect.address();
        self.connection.open(registry, self.token, address, now_ns)
    }

    /// Connected: declare everything, each declaration right behind the one before.
    pub(super) fn on_opened(&mut self, server: ServerInfo) -> Result<()> {
        self.consumers.server_takes_timeouts = takes_argument(&server);
        self.server = server;
        self.stage = Stage::Declaring;
        write_channel_open(&mut self.connection.output, DECLARING);
        self.declare()
    }

    pub(super) fn declare(&mut self) -> Result<()> {
        for (index, declaration) in self.config.declarations.iter().enumerate() {
            write_declaration(&mut self.connection.output, DECLARING, declaration)?;
            self.declaring.push_back(index);
        }
        Ok(())
    }

    pub(super) fn on_declared(&mut self, events: &mut Vec<BrokerEvent>) {
        if self.stage == Stage::Declaring {
            self.stage = Stage::Consuming;
            let is_first = !self.reconnect.on_connected();
            self.counters.reconnects += u64::from(!is_first);
            if is_first && let Some(text) = self.patience.warning(&self.server, &self.config) {
                events.push(BrokerEvent::Degraded { text });
            }
            self.open_channel();
            events.push(BrokerEvent::Connected);
        }
    }

    pub(super) fn open_channel(&mut self) {
        self.reopen_ns = None;
        write_channel_open(&mut self.connection.output, CHANNEL);
    }

    /// The consuming channel is gone, alone or with the connection: the server hands everything out again.
    fn on_channel_lost(&mut self, events: &mut Vec<BrokerEvent>) {
        let (held, settled) = self.unacked.on_channel_lost();
        self.adoption.on_channel_lost(&held, &settled);
        self.consumers.on_channel_lost();
        self.parking.clear();
        self.assembly = None;
        self.recalled.clear();
        self.held = 0;
        self.counters.leases_lost += held.len() as u64;
        if !held.is_empty() {
            events.push(BrokerEvent::Returned(held.into_iter().map(|(tag, _)| tag).collect()));
        }
    }

    /// The server closed the consuming channel; the connection and its tasks go on.
    pub(super) fn on_channel_closed(
        &mut self,
        error: &Error,
        now_ns: MonotonicNs,
        events: &mut Vec<BrokerEvent>,
    ) -> Result<()> {
        self.on_channel_lost(events);
        self.reopen_ns = Some(now_ns + self.reopen_wait_ns);
        self.reopen_wait_ns = (self.reopen_wait_ns * 2).min(REOPEN_MAX_NS);
        let text = format!("The broker closed the consuming channel: {error}. Opening it again.");
        events.push(BrokerEvent::Degraded { text });
        // A queue may be what is missing: one that was deleted while nothing consumed from it tells nobody.
        self.declare()
    }

    /// The connection is gone: sort out what it left behind, and decide when to try again.
    pub(super) fn on_closed(
        &mut self,
        registry: &Registry,
        error: Error,
        now_ns: MonotonicNs,
        events: &mut Vec<BrokerEvent>,
    ) {
        self.connection.close(registry);
        self.declaring.clear();
        self.reopen_ns = None;
        self.reopen_wait_ns = REOPEN_FIRST_NS;
        self.more_input = false;
        self.on_channel_lost(events);
        let retry_in_s = self.reconnect.on_failure(&error);
        self.stage = match retry_in_s {
            Some(wait_s) => Stage::Waiting {
                retry_ns: now_ns + (wait_s * 1e9) as u64,
                // At once where there is another server, or where this one only hung up.
                probe_ns: if error.kind() == ErrorKind::Connection { now_ns } else { u64::MAX },
            },
            None => Stage::GivenUp,
        };
        events.push(BrokerEvent::Disconnected { error, retry_in_s });
    }

    /// While waiting for the announced attempt the server is looked for silently: it may be back long before.
    pub(super) fn reopen_when_due(&mut self, registry: &Registry, now_ns: MonotonicNs, events: &mut Vec<BrokerEvent>) {
        let Stage::Waiting { retry_ns, probe_ns } = self.stage else { return };
        if let Some(outcome) = self.connection.poll_opening(registry, self.token, now_ns) {
            match outcome {
                Ok(server) => {
                    if let Err(error) = self.on_opened(server) {
                        self.on_closed(registry, error, now_ns, events);
                    }
                    return;
                }
                Err(error) if error.kind() == ErrorKind::Connection => {
                    self.reconnect.turn();
                    self.stage = Stage::Waiting { retry_ns, probe_ns: now_ns + PROBE_INTERVAL_NS };
                }
                Err(_) => self.stage = Stage::Waiting { retry_ns, probe_ns: u64::MAX },
            }
        }
        if now_ns >= retry_ns {
            self.stage = Stage::Opening;
            if !self.connection.is_opening()
                && let Err(error) = self.open(registry, now_ns)
            {
                self.on_closed(registry, error, now_ns, events);
            }
        } else if now_ns >= probe_ns && !self.connection.is_opening() {
            // No descriptor or thread to be had: the announced attempt will say so.
            let probe_ns = if self.open(registry, now_ns).is_ok() { u64::MAX } else { retry_ns };
            self.stage = Stage::Waiting { retry_ns, probe_ns };
        }
    }
}
