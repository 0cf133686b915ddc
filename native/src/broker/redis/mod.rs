//! Redis (and Valkey) as a broker, in kombu's layout.
//!
//! One connection carries everything; every state-changing step is one script, atomic on the server.
//! `keys.rs` lists the keys, `scripts/` holds the scripts, `fetching.rs` says when messages are fetched,
//! `leases.rs` until when they are ours, `settling.rs` how they end, `sweeping.rs` how the messages of the
//! dead return. Two mechanisms bring back what a dead node held: stock workers take any message whose
//! score is older than their `visibility_timeout`; pyworkers find within seconds that a node stopped
//! signing `pyworker:nodes` and hand its tags back at once.
//!
//! ```text
//!  Stopped --start--> Opening --> Preparing --> Consuming
//!                       ^  \         |             |
//!                       |   '--------+-------------'  connection lost
//!                       |            v
//!                       '-------- Waiting --(policy exhausted)--> GivenUp
//! ```

mod buffer;
pub(crate) mod connection;
mod entry;
mod fetching;
pub(crate) mod handshake;
mod keys;
mod leases;
mod replies;
mod request;
mod retry;
mod script;
pub(crate) mod sentinel;
pub(crate) mod server_error;
mod settling;
mod sweeping;

use std::sync::Arc;

use mio::{Registry, Token};

use self::connection::{Event, RedisConnection, to_ns};
use self::fetching::Fetching;
use self::handshake::ServerInfo;
use self::keys::Keys;
use self::leases::{LeaseTable, LeaseTimes};
use self::request::{Phrasebook, Request};
use self::retry::Retry;
use self::script::{Script, ScriptDigests};
use self::settling::SettleQueue;
use self::sweeping::Sweeping;
use super::{Broker, BrokerCounters, BrokerEvent, DeliveryTag, Settlement, TokenRange};
use crate::clock::{Clock, MonotonicNs};
use crate::config::RedisBrokerConfig;
use crate::error::{Error, ErrorKind, Result};

/// Most tags in one renewal script.
const RENEWAL_BATCH: usize = 400;
/// Most tags in one recall.
const RECALL_BATCH: usize = 200;
/// How long a server that says it is busy is left alone, growing to the maximum.
const BUSY_WAIT_S: f64 = 0.05;
const BUSY_WAIT_MAX_S: f64 = 1.0;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    Stopped,
    Opening,
    Preparing,
    Consuming,
    Waiting { retry_ns: MonotonicNs },
    GivenUp,
}

/// A renewal of all leases, in several scripts.
#[derive(Debug, Clone, Copy)]
struct RenewalRound {
    /// The moment since which everything held is proved to be ours.
    proves_ns: MonotonicNs,
    outstanding: usize,
}

/// The Redis broker.
#[derive(Debug)]
pub struct RedisBroker {
    config: RedisBrokerConfig,
    clock: Arc<dyn Clock>,
    keys: Keys,
    connection: RedisConnection<Request>,
    token: Token,
    stage: Stage,
    server: ServerInfo,
    digests: ScriptDigests,
    retry: Retry,
    fetching: Fetching,
    /// Send times of the fetches on their way, oldest first.
    fetches_sent_ns: std::collections::VecDeque<MonotonicNs>,
    leases: LeaseTable,
    times: LeaseTimes,
    round: Option<RenewalRound>,
    settling: SettleQueue,
    recalls: Vec<DeliveryTag>,
    /// Fetches whose answer was lost: counter ranges whose messages must go back.
    lost_fetches: Vec<(u64, u32)>,
    sweeping: Sweeping,
    /// Requests that a busy server refused, to be put again at `busy_until_ns`.
    delayed: Vec<Request>,
    busy_until_ns: MonotonicNs,
    busy_wait_s: f64,
    /// Times in a row that the server did not know a script.
    reloads: u32,
    counters: BrokerCounters,
}

impl RedisBroker {
    /// A broker that does nothing until it is started.
    #[must_use]
    pub fn new(config: RedisBrokerConfig, clock: Arc<dyn Clock>) -> Self {
        let seed = config
            .owner
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self {
            keys: Keys::new(&config),
            connection: RedisConnection::new(config.address.clone(), "broker"),
            token: Token(usize::MAX),
            stage: Stage::Stopped,
            server: ServerInfo::default(),
            digests: ScriptDigests::default(),
            retry: Retry::new(config.retry, config.address.sentinel.is_some()),
            fetching: Fetching::new(config.queues.len(), config.queue_order, seed),
            fetches_sent_ns: Default::default(),
            leases: LeaseTable::default(),
            times: LeaseTimes::new(config.visibility_timeout_s),
            round: None,
            settling: SettleQueue::default(),
            recalls: Vec::new(),
            lost_fetches: Vec::new(),
            sweeping: Sweeping::new(config.visibility_timeout_s),
            delayed: Vec::new(),
            busy_until_ns: 0,
            busy_wait_s: BUSY_WAIT_S,
            reloads: 0,
            counters: BrokerCounters::default(),
            config,
            clock,
        }
    }

    /// Puts a question to the server; the answer comes to `on_reply`.
    fn ask(&mut self, request: Request, now_ns: MonotonicNs) {
        if !self.connection.is_open() {
            // Its last answers are being looked at; `on_closed` is about to sort this out with the rest.
            self.delayed.push(request);
            return;
        }
        let phrasebook = Phrasebook {
            keys: &self.keys,
            digests: &self.digests,
            server_major: self.server.version.0,
            owner: &self.config.owner,
            now_s: self.clock.wall_s(),
        };
        self.counters.round_trips += u64::from(self.connection.unanswered() == 0);
        self.connection.send_request(request, now_ns, |request, out| phrasebook.write(request, out));
    }

    /// The server let us in: make the scripts known, close our former self, ask to be told of changes.
    fn on_opened(&mut self, info: ServerInfo, now_ns: MonotonicNs) {
        let previous = std::mem::replace(&mut self.server, info);
        self.stage = Stage::Preparing;
        if let (Some(client_id), Some(address)) = (previous.client_id, previous.local_address) {
            // Commands of ours that are still on their way over the old connection must not run any more.
            // The address keeps us from closing a stranger's connection on a restarted server.
            self.ask(Request::KillPrevious { client_id, address: address.to_string() }, now_ns);
        }
        self.load_scripts(now_ns);
        self.ask(Request::Track { resp3: info.resp3 }, now_ns);
    }

    fn load_scripts(&mut self, now_ns: MonotonicNs) {
        for script in Script::ALL {
            self.ask(Request::Load(script), now_ns);
        }
    }

    /// Prepared: prove the leases first, then say what ended meanwhile, then consume.
    fn on_prepared(&mut self, tracking: bool, now_ns: MonotonicNs, events: &mut Vec<BrokerEvent>) {
        self.stage = Stage::Consuming;
        self.counters.reconnects += u64::from(self.retry.on_connected());
        self.fetching.reset(tracking);
        self.times.make_due();
        self.sweeping.make_due();
        self.prove_leases(now_ns);
        self.send_settlements(now_ns);
        for (first_counter, want) in std::mem::take(&mut self.lost_fetches) {
            self.ask(Request::Undo { first_counter, want }, now_ns);
        }
        events.push(BrokerEvent::Connected);
    }

    /// The connection is gone: sort out what it left behind, and decide when to try again.
    fn on_closed(
        &mut self,
        error: Error,
        unanswered: Vec<Request>,
        now_ns: MonotonicNs,
        events: &mut Vec<BrokerEvent>,
    ) {
        let delayed = std::mem::take(&mut self.delayed);
        let mut again = Vec::new();
        for request in delayed.into_iter().chain(unanswered) {
            match request {
                Request::Fetch(ticket) => self.lost_fetches.push((ticket.first_counter, ticket.want)),
                Request::Undo { first_counter, want } => self.lost_fetches.push((first_counter, want)),
                Request::Recall(tags) => self.recalls.extend(tags),
                settled if SettleQueue::weight(&settled) > 0 => again.push(settled),
                _ => {}
            }
        }
        self.settling.send_again(again);
        self.fetches_sent_ns.clear();
        self.round = None;
        self.busy_until_ns = 0;
        self.sweeping.abandon();
        let retry_in_s = self.retry.on_failure(&error);
        self.stage = match retry_in_s {
            Some(wait_s) => Stage::Waiting { retry_ns: now_ns + to_ns(wait_s) },
            None => Stage::GivenUp,
        };
        events.push(BrokerEvent::Disconnected { error, retry_in_s });
    }

    /// Reads, reacts, and reports whether anything came.
    fn exchange(&mut self, registry: &Registry, ready: bool, now_ns: MonotonicNs, events: &mut Vec<BrokerEvent>) {
        let mut happened = Vec::new();
        self.connection.drive(registry, ready, now_ns, &mut happened);
        let mut failure = None;
        for event in happened {
            match event {
                Event::Opened(info) => self.on_opened(info, now_ns),
                Event::Closed { error, unanswered } => self.on_closed(error, unanswered, now_ns, events),
                Event::Push(items) => self.on_push(&items, now_ns),
                // After a failure the rest is treated as unanswered by closing; answers that did come count.
                Event::Reply { request, reply } => {
                    if let Err(error) = self.on_reply(request, reply, now_ns, events) {
                        failure.get_or_insert(error);
                    }
                }
            }
        }
        if let Some(error) = failure
            && !self.connection.is_closed()
        {
            let unanswered = self.connection.close(registry);
            self.on_closed(error, unanswered, now_ns, events);
        }
    }

    /// Signs the list of nodes and moves the scores of everything we hold, in that order: once we have
    /// signed nobody starts to reclaim, so a tag that the renewal still finds is ours.
    fn prove_leases(&mut self, now_ns: MonotonicNs) {
        let heartbeat_due = now_ns >= self.times.next_heartbeat_ns;
        if heartbeat_due {
            self.times.next_heartbeat_ns = now_ns + self.times.heartbeat_interval_ns();
            self.ask(Request::Heartbeat { sent_ns: now_ns }, now_ns);
        }
        let stalled = heartbeat_due && now_ns > self.times.start_deadline_ns();
        if self.round.is_some() || (now_ns < self.times.next_renewal_ns && !stalled) {
            return;
        }
        self.times.next_renewal_ns = now_ns + self.times.renewal_interval_ns();
        let now_s = self.clock.wall_s();
        let tags = self.leases.renewable(now_s);
        // A fetch on its way registered its messages when it was sent; this round does not know them.
        let proves_ns = self.fetches_sent_ns.front().map_or(now_ns, |sent_ns| (*sent_ns).min(now_ns));
        if tags.is_empty() {
            self.times.on_renewed(proves_ns);
        } else {
            self.round = Some(RenewalRound { proves_ns, outstanding: tags.len().div_ceil(RENEWAL_BATCH) });
        }
        for batch in tags.chunks(RENEWAL_BATCH) {
            self.ask(Request::Renew { now_s, tags: batch.to_vec() }, now_ns);
        }
        // The net under the pushes: look at the lists once per renewal, whatever the server told us.
        self.fetching.look_again();
    }

    fn send_settlements(&mut self, now_ns: MonotonicNs) {
        for request in self.settling.take_requests() {
            if matches!(request, Request::Requeue { .. }) {
                // The server does not tell us of our own changes.
                self.fetching.look_again();
            }
            self.ask(request, now_ns);
        }
    }

    fn send_recalls(&mut self, now_ns: MonotonicNs) {
        let tags = std::mem::take(&mut self.recalls);
        for batch in tags.chunks(RECALL_BATCH) {
            self.ask(Request::Recall(batch.to_vec()), now_ns);
        }
    }

    fn send_fetches(&mut self, now_ns: MonotonicNs) {
        while let Some((ticket, probe)) = self.fetching.next(now_ns) {
            let order = ticket.order.clone();
            self.fetches_sent_ns.push_back(now_ns);
            self.ask(Request::Fetch(ticket), now_ns);
            if probe {
                self.ask(Request::Caching, now_ns);
                self.ask(Request::Exists { order }, now_ns);
            }
        }
    }

    /// A busy server is asked the same again, a little later.
    fn delay(&mut self, request: Request, now_ns: MonotonicNs) {
        if self.delayed.is_empty() {
            self.busy_until_ns = now_ns + to_ns(self.busy_wait_s);
            self.busy_wait_s = (self.busy_wait_s * 2.0).min(BUSY_WAIT_MAX_S);
        }
        self.delayed.push(request);
    }

    fn send_delayed(&mut self, now_ns: MonotonicNs) {
        if self.delayed.is_empty() || now_ns < self.busy_until_ns {
            return;
        }
        for request in std::mem::take(&mut self.delayed) {
            self.ask(request, now_ns);
        }
    }

    fn reopen_when_due(&mut self, registry: &Registry, now_ns: MonotonicNs, events: &mut Vec<BrokerEvent>) {
        if let Stage::Waiting { retry_ns } = self.stage
            && now_ns >= retry_ns
        {
            self.stage = Stage::Opening;
            // No file descriptor or thread to be had: as good as a refused connection.
            if let Err(error) = self.connection.open(registry, self.token, now_ns) {
                self.on_closed(error, Vec::new(), now_ns, events);
            }
        }
    }
}

impl Broker for RedisBroker {
    fn start(&mut self, registry: &Registry, tokens: TokenRange, now_ns: MonotonicNs) -> Result<()> {
        if self.stage != Stage::Stopped {
            return Err(Error::new(ErrorKind::Internal, "the redis broker was started twice"));
        }
        self.token = tokens.at(0);
        self.stage = Stage::Opening;
        self.connection.open(registry, self.token, now_ns)
    }

    fn drive(
        &mut self,
        registry: &Registry,
        ready: &[Token],
        now_ns: MonotonicNs,
        events: &mut Vec<BrokerEvent>,
    ) -> Result<()> {
        self.reopen_when_due(registry, now_ns, events);
        self.exchange(registry, ready.contains(&self.token), now_ns, events);
        if self.stage == Stage::Consuming {
            self.send_delayed(now_ns);
            self.prove_leases(now_ns);
            self.send_settlements(now_ns);
            self.send_recalls(now_ns);
            self.sweep(now_ns);
            self.send_fetches(now_ns);
        }
        // Writes what was asked; what the answers bring waits for the next turn.
        self.exchange(registry, false, now_ns, events);
        Ok(())
    }

    fn deadline_ns(&self) -> Option<MonotonicNs> {
        if let Stage::Waiting { retry_ns } = self.stage {
            return Some(retry_ns);
        }
        let own = self.connection.deadline_ns();
        if self.stage != Stage::Consuming {
            return own;
        }
        let unsent = self.settling.has_unsent() || !self.recalls.is_empty();
        [
            own,
            unsent.then_some(0),
            (!self.delayed.is_empty()).then_some(self.busy_until_ns),
            Some(self.times.next_heartbeat_ns),
            self.round.is_none().then_some(self.times.next_renewal_ns),
            self.sweeping.deadline_ns(),
            self.fetching.deadline_ns(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn set_demand(&mut self, messages: u32) {
        self.fetching.set_demand(messages);
    }

    fn settle(&mut self, settlements: &[(DeliveryTag, Settlement)]) {
        for (tag, how) in settlements {
            if let Settlement::Park { until_s } = how {
                if self.leases.park(*tag, *until_s) {
                    self.settling.park(*tag, *until_s);
                }
            } else if let Some((list, digest)) = self.leases.release(*tag) {
                self.settling.end(*tag, *how, list, digest);
            }
        }
    }

    fn recall(&mut self, tags: &[DeliveryTag]) {
        self.recalls.extend_from_slice(tags);
    }

    fn set_queue_active(&mut self, queue: u16, active: bool) {
        if usize::from(queue) < self.keys.queue_count() {
            self.fetching.set_active(queue, active);
        }
    }

    fn add_queue(&mut self, name: &str) -> Result<u16> {
        let queue = u16::try_from(self.keys.queue_count())
            .ok()
            .filter(|queue| *queue < u16::MAX)
            .ok_or_else(|| Error::new(ErrorKind::Config, "queues: more than 65535 queues"))?;
        self.keys.add_queue(name);
        self.fetching.set_active(queue, true);
        Ok(queue)
    }

    fn start_deadline_ns(&self) -> MonotonicNs {
        self.times.start_deadline_ns()
    }

    fn pending_settlements(&self) -> usize {
        self.settling.unconfirmed()
    }

    fn answer_is_near(&self) -> bool {
        !self.fetches_sent_ns.is_empty()
    }

    fn counters(&self) -> BrokerCounters {
        self.counters
    }

    fn stop(&mut self, registry: &Registry) {
        if self.stage == Stage::Consuming {
            let now_ns = self.clock.monotonic_ns();
            self.send_settlements(now_ns);
            let abandoned = !self.leases.is_empty() || !self.fetches_sent_ns.is_empty();
            self.ask(Request::SignOff { abandoned }, now_ns);
            self.connection.flush();
        }
        self.connection.close(registry);
        self.stage = Stage::Stopped;
    }
}
