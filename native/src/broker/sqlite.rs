//! SQLite as a broker: one file for the processes of one machine.
//!
//! All work on the file is done by the session's thread ([`crate::sqlite::session`]); this is its engine side: what
//! is held, until when it may be started, and the counters. A lease is the node's, not the message's: signing the
//! list of nodes renews everything held, a million parked messages included. Signing is asked for by the engine's
//! own thread, so a node whose engine hangs does not keep its messages.

use std::collections::HashSet;
use std::io::Read;
use std::sync::Arc;

use mio::unix::pipe;
use mio::{Registry, Token};

use super::{Broker, BrokerCounters, BrokerEvent, DeliveryTag, Settlement, TokenRange};
use crate::clock::{Clock, MonotonicNs};
use crate::config::QueueOrder;
use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::SqliteBrokerConfig;
use crate::sqlite::session::{Consumer, News, Session};

/// A node that has not signed for so long counts as dead, at most.
const DEAD_AFTER_S: f64 = 15.0;
/// Longest time between two signings.
const SIGN_MAX_S: f64 = 4.0;

/// The SQLite broker.
#[derive(Debug)]
pub struct SqliteBroker {
    session: Arc<Session>,
    fair: bool,
    lease_ns: u64,
    token: Token,
    pipe: Option<pipe::Receiver>,
    demand: u32,
    /// Everything delivered and not settled.
    held: HashSet<DeliveryTag>,
    settlements: Vec<(DeliveryTag, Settlement)>,
    recalls: Vec<DeliveryTag>,
    /// Settlements that are not in the file yet, those with the thread included.
    unconfirmed: usize,
    renewed_ns: MonotonicNs,
    next_renewal_ns: MonotonicNs,
    is_connected: bool,
    was_connected: bool,
    counters: BrokerCounters,
}

impl SqliteBroker {
    /// A broker that does nothing until it is started.
    ///
    /// # Errors
    ///
    /// `Resource` if there is no memory to be had.
    pub fn new(config: SqliteBrokerConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        let lease_ns = (config.visibility_timeout_s.clamp(1.0, DEAD_AFTER_S) * 1e9) as u64;
        let fair = config.queue_order == QueueOrder::RoundRobin;
        let consumer = Consumer {
            queues: config.queues,
            fair,
            owner: config.owner,
            lease_ns,
            max_message_bytes: config.max_message_bytes,
        };
        Ok(Self {
            session: Session::new(config.address, Some(consumer), config.retry, clock)?,
            fair,
            lease_ns,
            token: Token(usize::MAX),
            pipe: None,
            demand: 0,
            held: HashSet::new(),
            settlements: Vec::new(),
            recalls: Vec::new(),
            unconfirmed: 0,
            renewed_ns: 0,
            next_renewal_ns: 0,
            is_connected: false,
            was_connected: false,
            counters: BrokerCounters::default(),
        })
    }

    /// The session, for a result store in the same file.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    fn on_news(&mut self, news: News, events: &mut Vec<BrokerEvent>) {
        match news {
            News::Event(event) => {
                self.on_event(&event);
                events.push(event);
            }
            News::Settled { confirmed, lost, requeued } => {
                self.unconfirmed = self.unconfirmed.saturating_sub(confirmed + lost);
                self.counters.settled += confirmed as u64;
                self.counters.leases_lost += lost as u64;
                self.counters.requeued += requeued as u64;
                self.counters.round_trips += 1;
            }
            News::Buried => {
                let lost: Vec<DeliveryTag> = self.held.drain().collect();
                self.counters.leases_lost += lost.len() as u64;
                if !lost.is_empty() {
                    events.push(BrokerEvent::LeaseLost(lost));
                }
            }
            News::Reclaimed(count) => self.counters.reclaimed += count,
        }
    }

    fn on_event(&mut self, event: &BrokerEvent) {
        match event {
            BrokerEvent::Connected => {
                self.is_connected = true;
                self.counters.reconnects += u64::from(std::mem::replace(&mut self.was_connected, true));
            }
            BrokerEvent::Disconnected { .. } => self.is_connected = false,
            BrokerEvent::Delivered(messages) => {
                self.counters.delivered += messages.len() as u64;
                self.held.extend(messages.iter().map(|message| message.tag));
            }
            BrokerEvent::LeasesRenewed { at_ns } => self.renewed_ns = self.renewed_ns.max(*at_ns),
            _ => {}
        }
    }

    /// How many of the delivered messages count against the demand: recalled ones were known before.
    fn new_deliveries(held: &HashSet<DeliveryTag>, news: &[News]) -> u32 {
        let mut count = 0;
        for item in news {
            if let News::Event(BrokerEvent::Delivered(messages)) = item {
                count += messages.iter().filter(|message| !held.contains(&message.tag)).count();
            }
        }
        count as u32
    }
}

impl Broker for SqliteBroker {
    fn start(&mut self, registry: &Registry, tokens: TokenRange, now_ns: MonotonicNs) -> Result<()> {
        if self.pipe.is_some() {
            return Err(Error::new(ErrorKind::Internal, "the sqlite broker was started twice"));
        }
        self.token = tokens.at(0);
        self.next_renewal_ns = now_ns + self.renewal_interval_ns();
        self.pipe = Some(self.session.join(registry, self.token, true)?);
        Ok(())
    }

    fn drive(
        &mut self,
        _registry: &Registry,
        ready: &[Token],
        now_ns: MonotonicNs,
        events: &mut Vec<BrokerEvent>,
    ) -> Result<()> {
        if ready.contains(&self.token)
            && let Some(pipe) = &mut self.pipe
        {
            drain(pipe);
        }
        let mut renew_ns = None;
        if now_ns >= self.next_renewal_ns {
            self.next_renewal_ns = now_ns + self.renewal_interval_ns();
            renew_ns = self.is_connected.then_some(now_ns);
        }
        let (held, demand) = (&self.held, &mut self.demand);
        let news = self.session.exchange(&mut self.settlements, &mut self.recalls, renew_ns, |news| {
            *demand = demand.saturating_sub(Self::new_deliveries(held, news));
            *demand
        });
        for item in news {
            self.on_news(item, events);
        }
        Ok(())
    }

    fn deadline_ns(&self) -> Option<MonotonicNs> {
        if !self.settlements.is_empty() || !self.recalls.is_empty() {
            return Some(0);
        }
        Some(self.next_renewal_ns)
    }

    fn set_demand(&mut self, messages: u32) {
        self.demand = messages;
    }

    fn settle(&mut self, settlements: &[(DeliveryTag, Settlement)]) {
        for (tag, how) in settlements {
            let is_held = match how {
                Settlement::Park { .. } => self.held.contains(tag),
                _ => self.held.remove(tag),
            };
            if is_held {
                self.settlements.push((*tag, *how));
                self.unconfirmed += 1;
            }
        }
    }

    fn recall(&mut self, tags: &[DeliveryTag]) {
        self.recalls.extend_from_slice(tags);
    }

    fn set_queue_active(&mut self, queue: u16, active: bool) {
        self.session.set_active(queue, active, self.fair);
    }

    fn add_queue(&mut self, name: &str) -> Result<u16> {
        self.session.add_queue(name)
    }

    fn start_deadline_ns(&self) -> MonotonicNs {
        if self.renewed_ns == 0 { 0 } else { self.renewed_ns + self.lease_ns / 2 }
    }

    fn pending_settlements(&self) -> usize {
        self.unconfirmed
    }

    fn counters(&self) -> BrokerCounters {
        self.counters
    }

    fn stop(&mut self, registry: &Registry) {
        if let Some(mut pipe) = self.pipe.take() {
            // What is queued leaves with the last word.
            self.session.exchange(&mut self.settlements, &mut self.recalls, None, |_| 0);
            let _ = registry.deregister(&mut pipe);
            self.session.leave(false);
        }
    }
}

impl SqliteBroker {
    fn renewal_interval_ns(&self) -> u64 {
        (self.lease_ns / 3).min((SIGN_MAX_S * 1e9) as u64)
    }
}

impl Drop for SqliteBroker {
    fn drop(&mut self) {
        if self.pipe.take().is_some() {
            self.session.leave(true);
        }
    }
}

/// Empties a pipe whose only meaning is that it is not empty.
pub(crate) fn drain(pipe: &mut pipe::Receiver) {
    let mut bytes = [0; 64];
    while pipe.read(&mut bytes).is_ok_and(|count| count > 0) {}
}
