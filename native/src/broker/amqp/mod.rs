//! RabbitMQ as a broker, over AMQP 0-9-1.
//!
//! One connection with two channels: one declares, one consumes and acknowledges. There are no leases: a message is
//! ours as long as its channel lives. When the server takes a channel away (a lost connection, a consumer timeout)
//! it hands everything out again; `broker/adoption.rs` says how a message whose task still runs here is not run twice.
//! `lifecycle.rs` says how it goes from one stage to the next, `consumers.rs` how the prefetch moves, `unacked.rs` how
//! ends are told and known to be told, `parking.rs` where messages wait for their time, `reconnect.rs` when and where
//! to try again.
//!
//! ```text
//!  Stopped --start--> Opening --> Declaring --> Consuming
//!                       ^  \         |             |  '--(channel closed)--> opened anew, same stage
//!                       |   '--------+-------------'  connection lost
//!                       |            v
//!                       '-------- Waiting --(policy exhausted)--> GivenUp
//! ```

mod assembly;
mod connection;
mod consumers;
mod frames;
pub(crate) mod handshake;
mod lifecycle;
mod parking;
mod patience;
mod reconnect;
pub(crate) mod topology;
mod unacked;

use std::sync::Arc;

use mio::{Registry, Token};

use self::assembly::Assembly;
use self::connection::AmqpConnection;
use self::consumers::{CHANNEL, ConsumerArguments, Consumers};
use self::handshake::ServerInfo;
use self::parking::Parking;
pub use self::patience::Patience;
use self::reconnect::Reconnect;
use self::topology::{subject, table_of, write_declaration};
use self::unacked::Unacked;
use super::adoption::Adoption;
use super::{Broker, BrokerCounters, BrokerEvent, DeliveryTag, Incoming, Settlement, TokenRange};
use crate::clock::{Clock, MonotonicNs};
use crate::config::amqp::{AmqpBrokerConfig, AmqpQueue, Declaration};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::amqp::{write_close, write_qos};

/// The channel that declares.
const DECLARING: u16 = 2;
/// A channel that the server closed is opened again after this long, doubled each time in a row.
const REOPEN_FIRST_NS: MonotonicNs = 20_000_000;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    Stopped,
    Opening,
    Declaring,
    Consuming,
    Waiting { retry_ns: MonotonicNs, probe_ns: MonotonicNs },
    GivenUp,
}

/// Whether a queue goes with its last consumer, and every message in it.
fn keeps_its_queue(declarations: &[Declaration], name: &str) -> bool {
    declarations
        .iter()
        .any(|one| matches!(one, Declaration::Queue { name: declared, auto_delete: true, .. } if declared == name))
}

fn consumer_arguments(patience: Patience, declared: &[Declaration], queue: &AmqpQueue) -> Result<ConsumerArguments> {
    let plain = table_of(&queue.arguments)?;
    let patient = patience.arguments(declared, &queue.name, &plain)?;
    Ok(ConsumerArguments { plain, patient })
}

/// The RabbitMQ broker.
#[derive(Debug)]
pub struct AmqpBroker {
    config: AmqpBrokerConfig,
    clock: Arc<dyn Clock>,
    connection: AmqpConnection,
    token: Token,
    parking_token: Token,
    stage: Stage,
    server: ServerInfo,
    reconnect: Reconnect,
    /// Declarations without an answer, as indexes; the first is the one being answered.
    declaring: std::collections::VecDeque<usize>,
    consumers: Consumers,
    unacked: Unacked,
    adoption: Adoption,
    parking: Parking,
    patience: Patience,
    assembly: Option<Assembly>,
    demand: u32,
    /// Deliveries that the engine holds.
    held: usize,
    /// Recalled messages on their way to the engine.
    recalled: Vec<Incoming>,
    /// The consuming channel is to be opened then; `None` while it is open.
    reopen_ns: Option<MonotonicNs>,
    reopen_wait_ns: MonotonicNs,
    /// The engine handed something back that it had not started.
    handed_back: bool,
    /// The socket may have more.
    more_input: bool,
    counters: BrokerCounters,
}

impl AmqpBroker {
    /// A broker that does nothing until it is started; `patience` is what its tasks need of the server's.
    ///
    /// # Errors
    ///
    /// `Malformed` when an argument of a declaration has no form in AMQP.
    pub fn new(config: AmqpBrokerConfig, patience: Patience, clock: Arc<dyn Clock>) -> Result<Self> {
        let mut scratch = Vec::new();
        for declaration in config.declarations.iter().chain(&config.delay_declarations) {
            write_declaration(&mut scratch, DECLARING, declaration)
                .map_err(|error| error.context(&subject(declaration)))?;
            scratch.clear();
        }
        let mut consumers = Consumers::default();
        for queue in &config.queues {
            let arguments = consumer_arguments(patience, &config.declarations, queue)?;
            consumers.add(queue, keeps_its_queue(&config.declarations, &queue.name), arguments);
        }
        Ok(Self {
            clock,
            connection: AmqpConnection::new(),
            token: Token(usize::MAX),
            parking_token: Token(usize::MAX),
            stage: Stage::Stopped,
            server: ServerInfo::default(),
            reconnect: Reconnect::new(config.retry, config.addresses.clone(), config.failover),
            declaring: Default::default(),
            consumers,
            unacked: Unacked::default(),
            adoption: Adoption::default(),
            parking: Parking::new(&config),
            patience,
            assembly: None,
            demand: 0,
            held: 0,
            recalled: Vec::new(),
            reopen_ns: None,
            reopen_wait_ns: REOPEN_FIRST_NS,
            handed_back: false,
            more_input: false,
            counters: BrokerCounters::default(),
            config,
        })
    }

    /// Opening, reading, reacting; an error ends the connection.
    fn receive(
        &mut self,
        registry: &Registry,
        ready: bool,
        now_ns: MonotonicNs,
        events: &mut Vec<BrokerEvent>,
    ) -> Result<()> {
        if self.stage == Stage::Opening
            && let Some(outcome) = self.connection.poll_opening(registry, self.token, now_ns)
        {
            self.on_opened(outcome?)?;
            self.process_input(now_ns, events)?;
        }
        if !self.connection.is_open() {
            return Ok(());
        }
        if ready || self.more_input {
            self.more_input = self.connection.fill(now_ns)?;
            self.process_input(now_ns, events)?;
        }
        self.connection.keep_alive(now_ns)
    }

    /// What the engine wants, and what it has ended.
    fn send(&mut self, now_ns: MonotonicNs, events: &mut Vec<BrokerEvent>) {
        if self.reopen_ns.is_some_and(|reopen_ns| now_ns >= reopen_ns) {
            self.open_channel();
        }
        if self.reopen_ns.is_some() {
            return;
        }
        let hands_back = std::mem::take(&mut self.handed_back) && self.demand == 0;
        if hands_back || self.consumers.is_hoarding(self.demand, self.held, now_ns) {
            let unacked = &mut self.unacked;
            let counters = &mut self.counters;
            self.consumers.pause(&mut self.connection.output, |delivery| {
                counters.requeued += 1;
                unacked.settle(delivery, Settlement::Release);
            });
        }
        if self.unacked.has_unsent() {
            let consumers = &mut self.consumers;
            self.unacked.write(&mut self.connection.output, CHANNEL, |queue, serial| {
                consumers.on_credit_back(queue, serial);
            });
        }
        if self.declaring.is_empty() {
            self.consumers.follow(self.demand, &mut self.connection.output);
        }
        self.hand_out(events);
        if self.unacked.begin_barrier() {
            // The limit that it sets is overwritten by that of the next consumer.
            write_qos(&mut self.connection.output, CHANNEL, 1);
            self.consumers.limits_sent.push_back(true);
            self.counters.round_trips += 1;
        }
    }

    fn hand_out(&mut self, events: &mut Vec<BrokerEvent>) {
        let mut batch = std::mem::take(&mut self.recalled);
        while self.demand > 0
            && let Some(message) = self.consumers.next()
        {
            self.demand -= 1;
            let tag = self.unacked.tag(message.delivery);
            if !self.consumers.is_no_ack(message.queue) {
                self.unacked.hand(message.delivery, tag);
                self.held += 1;
            }
            if let Ok(envelope) = &message.content
                && envelope.eta_s().is_some_and(|eta_s| eta_s > self.clock.wall_s() - 1.0)
            {
                self.parking.keep(tag, message.queue, message.deliveries, envelope, message.properties);
            }
            self.counters.delivered += 1;
            batch.push(Incoming {
                tag,
                queue: message.queue,
                deliveries: message.deliveries,
                content: message.content,
            });
        }
        if !batch.is_empty() {
            events.push(BrokerEvent::Delivered(batch));
        }
    }

    fn drive_parking(&mut self, registry: &Registry, now_ns: MonotonicNs, events: &mut Vec<BrokerEvent>) {
        let mut parked = Vec::new();
        let failure = self.parking.drive(registry, self.parking_token, now_ns, |tag| parked.push(tag));
        for tag in &parked {
            self.end(*tag, Settlement::Ack);
        }
        if !parked.is_empty() {
            events.push(BrokerEvent::Returned(parked));
        }
        if let Some(error) = failure {
            let text = format!("Cannot use the delay levels of the broker, ETA tasks are held here: {error}");
            events.push(BrokerEvent::Degraded { text });
        }
    }

    /// Ends a delivery, whichever channel it came by; true if the present channel has it.
    fn end(&mut self, tag: DeliveryTag, how: Settlement) -> bool {
        let delivery = self.adoption.take_adopted(tag).or_else(|| self.unacked.delivery(tag));
        match delivery {
            Some(delivery) => {
                self.held = self.held.saturating_sub(1);
                self.unacked.settle(delivery, how);
            }
            None => self.adoption.settle_orphan(tag, how),
        }
        delivery.is_some()
    }
}

impl Broker for AmqpBroker {
    fn start(&mut self, registry: &Registry, tokens: TokenRange, now_ns: MonotonicNs) -> Result<()> {
        if self.stage != Stage::Stopped {
            return Err(Error::new(ErrorKind::Internal, "the amqp broker was started twice"));
        }
        self.token = tokens.at(0);
        self.parking_token = tokens.at(1);
        self.stage = Stage::Opening;
        self.open(registry, now_ns)
    }

    fn drive(
        &mut self,
        registry: &Registry,
        ready: &[Token],
        now_ns: MonotonicNs,
        events: &mut Vec<BrokerEvent>,
    ) -> Result<()> {
        self.reopen_when_due(registry, now_ns, events);
        if let Err(error) = self.receive(registry, ready.contains(&self.token), now_ns, events) {
            self.on_closed(registry, error, now_ns, events);
        }
        self.drive_parking(registry, now_ns, events);
        if self.stage == Stage::Consuming {
            self.send(now_ns, events);
        }
        if let Err(error) = self.connection.flush(now_ns) {
            self.on_closed(registry, error, now_ns, events);
        }
        Ok(())
    }

    fn deadline_ns(&self) -> Option<MonotonicNs> {
        let own = self.connection.deadline_ns();
        match self.stage {
            Stage::Waiting { retry_ns, probe_ns } => [own, Some(retry_ns.min(probe_ns))].into_iter().flatten().min(),
            Stage::Consuming => {
                let wanted = self.demand > 0 && self.consumers.has_messages();
                let unsent = self.more_input || wanted || !self.recalled.is_empty() || self.parking.has_unsent();
                let at_once = unsent || (self.unacked.has_unsent() && self.reopen_ns.is_none());
                [own, at_once.then_some(0), self.reopen_ns, self.consumers.deadline_ns()].into_iter().flatten().min()
            }
            _ => own,
        }
    }

    fn set_demand(&mut self, messages: u32) {
        self.demand = messages;
    }

    fn settle(&mut self, settlements: &[(DeliveryTag, Settlement)]) {
        for (tag, how) in settlements {
            if let Settlement::Park { until_s } = how {
                let (now_s, now_ns) = (self.clock.wall_s(), self.clock.monotonic_ns());
                if !self.parking.park(*tag, *until_s, now_s, now_ns) {
                    // Nobody kept it: it goes back, and comes again with everything it needs.
                    self.end(*tag, Settlement::Release);
                }
                continue;
            }
            self.parking.forget(*tag);
            if self.end(*tag, *how) && matches!(how, Settlement::Release | Settlement::Requeue) {
                self.counters.requeued += 1;
                self.handed_back |= *how == Settlement::Release;
            }
        }
    }

    fn recall(&mut self, tags: &[DeliveryTag]) {
        let recalled = self.parking.recall(tags);
        self.recalled.extend(recalled);
    }

    fn set_queue_active(&mut self, queue: u16, active: bool) {
        let unacked = &mut self.unacked;
        self.consumers.set_active(queue, active, &mut self.connection.output, |delivery| {
            unacked.settle(delivery, Settlement::Release);
        });
    }

    fn add_declared_queue(&mut self, queue: AmqpQueue, declarations: Vec<Declaration>) -> Result<u16> {
        let mut scratch = Vec::new();
        for declaration in &declarations {
            write_declaration(&mut scratch, DECLARING, declaration)
                .map_err(|error| error.context(&subject(declaration)))?;
        }
        let index = u16::try_from(self.config.queues.len())
            .ok()
            .filter(|index| *index < u16::MAX)
            .ok_or_else(|| Error::new(ErrorKind::Config, "queues: more than 65535 queues"))?;
        let arguments = consumer_arguments(self.patience, &declarations, &queue)?;
        let missing = declarations.into_iter().filter(|one| !self.config.declarations.contains(one));
        let missing: Vec<Declaration> = missing.collect();
        self.consumers.add(&queue, keeps_its_queue(&missing, &queue.name), arguments);
        self.parking.add_queue(queue.delay_key.clone());
        self.config.queues.push(queue);
        for declaration in missing {
            if matches!(self.stage, Stage::Declaring | Stage::Consuming) {
                write_declaration(&mut self.connection.output, DECLARING, &declaration)?;
                self.declaring.push_back(self.config.declarations.len());
            }
            self.config.declarations.push(declaration);
        }
        Ok(index)
    }

    fn start_deadline_ns(&self) -> MonotonicNs {
        self.connection.valid_until_ns()
    }

    fn pending_settlements(&self) -> usize {
        self.unacked.pending()
    }

    fn counters(&self) -> BrokerCounters {
        self.counters
    }

    fn stop(&mut self, registry: &Registry) {
        if self.connection.is_open() {
            write_close(&mut self.connection.output, 200, "");
            // A courtesy: the server notices a closed socket as well.
            let _ = self.connection.flush(self.clock.monotonic_ns());
        }
        self.connection.close(registry);
        self.stage = Stage::Stopped;
    }
}
