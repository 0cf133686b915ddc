//! Any transport of kombu's as a broker.
//!
//! One Python thread owns kombu's connection and its channels (`pyworker.worker.kombu_*`); this is its engine side: what
//! is held, what is parked, and which messages come again although their tasks still run here. What a transport loses
//! when a process is killed is the transport's own; here nothing is dropped between the two threads.

mod link;
mod parcel;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use mio::unix::pipe;
use mio::{Interest, Registry, Token};

pub use self::link::{Link, Parcel, QueueChange, Wishes};

use self::link::News;
use super::adoption::{Adoption, Claim, Identity, Settled};
use super::sqlite::drain;
use super::{Broker, BrokerCounters, BrokerEvent, DeliveryTag, Incoming, Settlement, TokenRange};
use crate::clock::MonotonicNs;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Envelope;

/// What the engine needs to know; everything else is kombu's.
#[derive(Debug, Clone)]
pub struct KombuBrokerConfig {
    /// Names of the queues to consume from.
    pub queues: Vec<String>,
    /// A message larger than this is undecodable.
    pub max_message_bytes: u64,
    /// Where Python's thread is met.
    pub link: Arc<Link>,
}

impl PartialEq for KombuBrokerConfig {
    fn eq(&self, other: &Self) -> bool {
        self.queues == other.queues
            && self.max_message_bytes == other.max_message_bytes
            && Arc::ptr_eq(&self.link, &other.link)
    }
}

impl KombuBrokerConfig {
    /// Checks what no type can express; the error names the field.
    ///
    /// # Errors
    ///
    /// `Config` for no queue, or too many.
    pub fn validate(&self) -> Result<()> {
        match self.queues.len() {
            0 => Err(Error::new(ErrorKind::Config, "queues: at least one queue is needed")),
            count if count > usize::from(u16::MAX) => {
                Err(Error::new(ErrorKind::Config, "queues: more than 65535 queues"))
            }
            _ => Ok(()),
        }
    }
}

/// A delivery of the present connection.
#[derive(Debug)]
struct Held {
    /// The engine's name for it: its own, or that of a delivery whose place it took.
    name: DeliveryTag,
    identity: Identity,
    queue: u16,
    deliveries: u32,
    /// Kept whole if it names a time before which it must not start.
    scheduled: Option<Box<Envelope>>,
}

/// Kombu as a broker.
#[derive(Debug)]
pub struct KombuBroker {
    config: KombuBrokerConfig,
    token: Token,
    pipe: Option<pipe::Receiver>,
    demand: u32,
    /// By Python's tag.
    held: HashMap<DeliveryTag, Held>,
    adoption: Adoption,
    /// Ends on their way to Python.
    settlements: Vec<(DeliveryTag, Settlement)>,
    /// Ends that Python has not confirmed, those above included, oldest first.
    unconfirmed: VecDeque<Settled>,
    recalled: Vec<Incoming>,
    queue_changes: Vec<QueueChange>,
    was_connected: bool,
    counters: BrokerCounters,
}

impl KombuBroker {
    /// A broker that does nothing until it is started.
    #[must_use]
    pub fn new(config: KombuBrokerConfig) -> Self {
        Self {
            config,
            token: Token(usize::MAX),
            pipe: None,
            demand: 0,
            held: HashMap::new(),
            adoption: Adoption::default(),
            settlements: Vec::new(),
            unconfirmed: VecDeque::new(),
            recalled: Vec::new(),
            queue_changes: Vec::new(),
            was_connected: false,
            counters: BrokerCounters::default(),
        }
    }

    fn on_news(&mut self, news: News, events: &mut Vec<BrokerEvent>) {
        match news {
            News::Connected => {
                self.counters.reconnects += u64::from(std::mem::replace(&mut self.was_connected, true));
                events.push(BrokerEvent::Connected);
            }
            News::Disconnected(text, retry_in_s) => {
                self.on_lost(events);
                let error = Error::new(ErrorKind::Connection, text);
                events.push(BrokerEvent::Disconnected { error, retry_in_s });
            }
            News::Parcels(parcels) => self.on_parcels(parcels, events),
            News::Confirmed(count) => {
                self.counters.settled += count as u64;
                self.unconfirmed.drain(..count.min(self.unconfirmed.len()));
            }
            News::Degraded(text) => events.push(BrokerEvent::Degraded { text }),
        }
        self.counters.round_trips += 1;
    }

    /// Whatever came over the connection that is gone will come again, here or elsewhere.
    fn on_lost(&mut self, events: &mut Vec<BrokerEvent>) {
        let held: Vec<_> = self.held.drain().map(|(_, held)| (held.name, held.identity)).collect();
        let settled: Vec<_> = self.unconfirmed.drain(..).collect();
        self.settlements.clear();
        self.recalled.clear();
        self.adoption.on_channel_lost(&held, &settled);
        self.counters.leases_lost += held.len() as u64;
        if !held.is_empty() {
            events.push(BrokerEvent::Returned(held.into_iter().map(|(name, _)| name).collect()));
        }
    }

    fn on_parcels(&mut self, parcels: Vec<Parcel>, events: &mut Vec<BrokerEvent>) {
        let mut batch = Vec::with_capacity(parcels.len());
        for parcel in parcels {
            let (tag, queue, deliveries) = (parcel.tag, parcel.queue, parcel.deliveries);
            // What was handed over in spite of a smaller demand meanwhile is the engine's to give back.
            self.demand = self.demand.saturating_sub(1);
            let content = parcel::open(parcel, self.config.max_message_bytes);
            let identity = parcel::identity(queue, &content);
            let claim =
                if deliveries > 0 && !self.adoption.is_idle() { self.adoption.claim(identity, tag) } else { None };
            let name = match claim {
                Some(Claim::Adopted(name)) => name,
                Some(Claim::Ended(how)) => {
                    self.settlements.push((tag, how));
                    self.unconfirmed.push_back(Settled { identity, how });
                    continue;
                }
                None => tag,
            };
            let scheduled = content.as_ref().ok().filter(|envelope| envelope.eta_s().is_some());
            let scheduled = scheduled.filter(|_| claim.is_none()).map(|envelope| Box::new(envelope.clone()));
            self.held.insert(tag, Held { name, identity, queue, deliveries, scheduled });
            if claim.is_none() {
                self.counters.delivered += 1;
                batch.push(Incoming { tag, queue, deliveries, content });
            }
        }
        if !batch.is_empty() {
            events.push(BrokerEvent::Delivered(batch));
        }
    }
}

impl Broker for KombuBroker {
    fn start(&mut self, registry: &Registry, tokens: TokenRange, _now_ns: MonotonicNs) -> Result<()> {
        if self.pipe.is_some() {
            return Err(Error::new(ErrorKind::Internal, "the kombu broker was started twice"));
        }
        self.token = tokens.at(0);
        let (sender, mut receiver) = pipe::new()?;
        registry.register(&mut receiver, self.token, Interest::READABLE)?;
        self.pipe = Some(receiver);
        self.config.link.attach(sender)
    }

    fn drive(
        &mut self,
        _registry: &Registry,
        ready: &[Token],
        _now_ns: MonotonicNs,
        events: &mut Vec<BrokerEvent>,
    ) -> Result<()> {
        if ready.contains(&self.token)
            && let Some(pipe) = &mut self.pipe
        {
            drain(pipe);
        }
        let recalled = std::mem::take(&mut self.recalled);
        if !recalled.is_empty() {
            events.push(BrokerEvent::Delivered(recalled));
        }
        let link = Arc::clone(&self.config.link);
        link.serve(|news, wishes| {
            for item in news {
                self.on_news(item, events);
            }
            wishes.demand = self.demand;
            wishes.settlements.append(&mut self.settlements);
            wishes.queues.append(&mut self.queue_changes);
        });
        Ok(())
    }

    fn deadline_ns(&self) -> Option<MonotonicNs> {
        let has_work = !(self.settlements.is_empty() && self.recalled.is_empty() && self.queue_changes.is_empty());
        has_work.then_some(0)
    }

    fn set_demand(&mut self, messages: u32) {
        self.demand = messages;
    }

    fn settle(&mut self, settlements: &[(DeliveryTag, Settlement)]) {
        for (name, how) in settlements {
            if matches!(how, Settlement::Park { .. }) {
                continue;
            }
            let tag = self.adoption.take_adopted(*name).unwrap_or(*name);
            match self.held.remove(&tag) {
                Some(held) => {
                    self.counters.requeued += u64::from(matches!(how, Settlement::Requeue | Settlement::Release));
                    self.settlements.push((tag, *how));
                    self.unconfirmed.push_back(Settled { identity: held.identity, how: *how });
                }
                None => self.adoption.settle_orphan(*name, *how),
            }
        }
    }

    fn recall(&mut self, tags: &[DeliveryTag]) {
        for tag in tags {
            if let Some(held) = self.held.get_mut(tag)
                && let Some(envelope) = held.scheduled.take()
            {
                let (queue, deliveries) = (held.queue, held.deliveries);
                self.recalled.push(Incoming { tag: *tag, queue, deliveries, content: Ok(*envelope) });
            }
        }
    }

    fn set_queue_active(&mut self, queue: u16, active: bool) {
        if let Some(name) = self.config.queues.get(usize::from(queue)) {
            self.queue_changes.push(QueueChange { index: queue, name: name.clone(), is_active: active });
        }
    }

    fn add_queue(&mut self, name: &str) -> Result<u16> {
        let index = u16::try_from(self.config.queues.len())
            .map_err(|_| Error::new(ErrorKind::Config, format!("queue {name}: there are 65535 already")))?;
        self.config.queues.push(name.to_owned());
        Ok(index)
    }

    fn start_deadline_ns(&self) -> MonotonicNs {
        // There are no leases: what is held is ours until the connection is lost, and that is told.
        MonotonicNs::MAX
    }

    fn pending_settlements(&self) -> usize {
        self.unconfirmed.len()
    }

    fn counters(&self) -> BrokerCounters {
        self.counters
    }

    fn stop(&mut self, registry: &Registry) {
        if let Some(mut pipe) = self.pipe.take() {
            self.config.link.serve(|_, wishes| {
                wishes.demand = 0;
                wishes.settlements.append(&mut self.settlements);
                wishes.is_stopping = true;
            });
            let _ = registry.deregister(&mut pipe);
        }
    }
}
