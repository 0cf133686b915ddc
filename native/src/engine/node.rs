//! The engine's thread: one loop that owns everything.
//!
//! A turn takes what the children did, drives the result store and the broker, places new messages and
//! hands jobs over. Under load a turn is followed by a short nap instead of a wait, so that the next one
//! finds a batch; when little happens the children ring and the thread sleeps until then.

use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Poll, Token};

use crate::broker::{Broker, BrokerEvent, DeliveryTag, Settlement, TokenRange};
use crate::clock::{Clock, MonotonicNs};
use crate::config::EngineConfig;
use crate::engine::children::{Child, ChildToken, Place};
use crate::engine::counters::Counters;
use crate::engine::events::EventBatch;
use crate::engine::jobs::{JobHandle, JobTable};
use crate::engine::lifecycle::Lifecycle;
use crate::engine::limits::Limit;
use crate::engine::notice::{Notice, NoticeKind};
use crate::engine::rates::RateLimits;
use crate::engine::revoked::RevokedIds;
use crate::engine::shared::Shared;
use crate::engine::writes::WriteTable;
use crate::error::Result;
use crate::eta::EtaHeap;
use crate::message::Envelope;
use crate::pool::supervisor::ForkServer;
use crate::qos::{PoolLoad, PrefetchLedger};
use crate::results::ResultStore;
use crate::watch::Watch;

/// Token of the command queue's waker.
pub(super) const WAKER: Token = Token(0);
/// Token of the fork server's socket.
pub(super) const FORK_SERVER: Token = Token(1);
/// Token of the socket of the fork server's spare.
pub(super) const FORK_SPARE: Token = Token(2);
/// The broker's tokens.
pub(super) const BROKER_TOKENS: TokenRange = TokenRange { first: 8, count: 8 };
/// The result store's tokens.
pub(super) const STORE_TOKENS: TokenRange = TokenRange { first: 16, count: 8 };

/// Pause after a turn under load.
const NAP: Duration = Duration::from_micros(250);
/// A turn in which at least this many jobs ended counts as load.
const LOAD_ENDS: usize = 4;
/// Longest wait when nothing has a deadline.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Everything the engine's thread owns.
#[derive(Debug)]
pub struct Node {
    pub(super) config: EngineConfig,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) poll: Poll,
    pub(super) shared: Arc<Shared>,
    pub(super) broker: Box<dyn Broker>,
    pub(super) store: Option<Box<dyn ResultStore>>,
    pub(super) server: ForkServer,
    pub(super) places: Vec<Place>,
    pub(super) jobs: JobTable,
    /// Reserved jobs in the order in which they start.
    pub(super) ready: VecDeque<JobHandle>,
    pub(super) eta: EtaHeap,
    /// The first scheduled messages, kept whole for `inspect scheduled`.
    pub(super) scheduled: HashMap<DeliveryTag, Box<Envelope>>,
    pub(super) recalled: HashSet<DeliveryTag>,
    pub(super) ledger: PrefetchLedger,
    pub(super) limits: BinaryHeap<Limit>,
    pub(super) rates: RateLimits,
    pub(super) task_index: HashMap<Box<str>, u16>,
    /// How often each task was started.
    pub(super) started_by_task: Vec<u64>,
    /// Moving average of each task's run time.
    pub(super) expected_ns: Vec<u64>,
    pub(super) revoked: RevokedIds,
    /// Some stamps are revoked: Python looks at stamped messages before they start.
    pub(super) watches_stamps: bool,
    /// Task events that have not left yet.
    pub(super) events: EventBatch,
    /// Names of the queues that were added while running.
    pub(super) added_queues: HashMap<u16, String>,
    pub(super) settlements: Vec<(DeliveryTag, Settlement)>,
    pub(super) notices: Vec<Notice>,
    pub(super) writes: WriteTable,
    pub(super) counters: Counters,
    pub(super) lifecycle: Lifecycle,
    pub(super) consuming: bool,
    pub(super) was_connected: bool,
    pub(super) next_tidy_ns: MonotonicNs,
    /// Jobs that ended in this turn.
    pub(super) ended: usize,
    /// Some task's request wants to be told of its start and its end.
    pub(super) watches: bool,
    /// The broker is to be driven again at once: what it delivered changed what it is asked for.
    pub(super) restless: bool,
    pub(super) watch: Watch,
}

impl Node {
    /// Runs until stopped. Returns early only if the poller itself fails.
    pub fn run(mut self) -> Result<()> {
        let now_ns = self.clock.monotonic_ns();
        self.broker.start(self.poll.registry(), BROKER_TOKENS, now_ns)?;
        if let Some(store) = &mut self.store {
            store.start(self.poll.registry(), STORE_TOKENS, now_ns)?;
        }
        for place in &mut self.places {
            place.respawn_at_ns = Some(now_ns);
        }
        let mut events = Events::with_capacity(256);
        let mut broker_ready = Vec::new();
        let mut store_ready = Vec::new();
        while !self.lifecycle.is_ended() {
            self.wait(&mut events)?;
            self.tell_turn_began();
            self.counters.turns += 1;
            self.ended = 0;
            let mut dead = Vec::new();
            let mut commands = false;
            for event in &events {
                let token = event.token();
                if token == WAKER {
                    commands = true;
                } else if token == FORK_SERVER || token == FORK_SPARE {
                    self.on_fork_server_event();
                } else if BROKER_TOKENS.index_of(token).is_some() {
                    broker_ready.push(token);
                } else if STORE_TOKENS.index_of(token).is_some() {
                    store_ready.push(token);
                } else if let Some(child) = ChildToken::from_token(token) {
                    match child {
                        ChildToken::Socket(index) => self.on_child_socket(index),
                        ChildToken::Process(index) => dead.push(index),
                    }
                }
            }
            self.turn(&mut broker_ready, &mut store_ready, &dead, commands)?;
        }
        self.tell_end();
        self.release_events_of(None);
        self.send_events();
        self.notices.push(Notice::new(NoticeKind::Stopped));
        self.shared.notify(&mut self.notices);
        Ok(())
    }

    fn turn(
        &mut self,
        broker_ready: &mut Vec<Token>,
        store_ready: &mut Vec<Token>,
        dead: &[usize],
        commands: bool,
    ) -> Result<()> {
        if commands {
            self.run_commands();
        }
        self.collect_from_children();
        for index in dead {
            self.on_child_death(*index);
        }
        self.end_late_starters();
        self.respawn();
        self.check_limits();
        self.recall_due();
        self.tidy();
        self.drive_store(store_ready)?;
        store_ready.clear();
        self.release_limited();
        self.dispatch();
        self.drive_broker(broker_ready)?;
        if !broker_ready.is_empty() {
            self.alert_idle_child();
        }
        broker_ready.clear();
        self.release_limited();
        self.dispatch();
        self.advance_lifecycle();
        self.flush_events();
        self.shared.notify(&mut self.notices);
        self.tell_turn_over();
        Ok(())
    }

    /// Tells the broker what became of deliveries.
    pub(super) fn settle_queued(&mut self) {
        if !self.settlements.is_empty() {
            self.broker.settle(&self.settlements);
            self.settlements.clear();
        }
    }

    /// Waits for the next thing to do, or naps under load.
    fn wait(&mut self, events: &mut Events) -> Result<()> {
        let timeout = if self.ended >= LOAD_ENDS {
            std::thread::sleep(NAP);
            Duration::ZERO
        } else if self.restless {
            Duration::ZERO
        } else if self.watch_for_news(events)? {
            return Ok(());
        } else {
            for place in &self.places {
                if let Some(child) = &place.child {
                    child.link.set_waiting(true);
                }
            }
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
            if self.children_have_news() { Duration::ZERO } else { self.time_to_deadline() }
        };
        self.poll_events(events, timeout)?;
        for place in &self.places {
            if let Some(child) = &place.child {
                child.link.set_waiting(false);
            }
        }
        Ok(())
    }

    fn poll_events(&mut self, events: &mut Events, timeout: Duration) -> Result<()> {
        match self.poll.poll(events, Some(timeout)) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {
                events.clear();
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn children_have_news(&self) -> bool {
        self.places.iter().any(|place| place.child.as_ref().is_some_and(|child| child.link.has_news()))
    }

    /// Waits awake for a moment if something is about to happen; true if it did.
    fn watch_for_news(&mut self, events: &mut Events) -> Result<bool> {
        if !self.news_is_near() {
            return Ok(false);
        }
        let mut watch = std::mem::take(&mut self.watch);
        let seen = watch.until(|| {
            self.poll_events(events, Duration::ZERO)?;
            Ok(self.children_have_news() || !events.is_empty())
        });
        self.watch = watch;
        seen
    }

    /// Whether a lone fetch or a lone short job is about to end. With more to do there is no sleep to avoid: the
    /// children need the processor, and the next batch comes by itself.
    fn news_is_near(&self) -> bool {
        let mut handed =
            self.places.iter().filter_map(|place| place.child.as_ref()).flat_map(|child| child.link.handed());
        match (handed.next(), handed.next()) {
            (None, _) => self.broker.answer_is_near(),
            (Some(only), None) => self.ready.is_empty() && Watch::covers(only.expected_ns),
            _ => false,
        }
    }

    /// Wakes a child for the message that is being fetched for an otherwise idle pool.
    fn alert_idle_child(&mut self) {
        let idle =
            self.places.iter().filter_map(|place| place.child.as_ref()).all(|child| child.link.outstanding() == 0);
        if idle
            && self.broker.answer_is_near()
            && let Some(index) = self.best_child()
            && let Some(child) = &mut self.places[index].child
        {
            child.link.alert();
        }
    }

    fn time_to_deadline(&mut self) -> Duration {
        let now_ns = self.clock.monotonic_ns();
        let now_s = self.clock.wall_s();
        let mut deadline_ns = now_ns + WAIT_MAX.as_nanos() as u64;
        let mut sooner = |candidate: Option<MonotonicNs>| {
            if let Some(candidate) = candidate {
                deadline_ns = deadline_ns.min(candidate);
            }
        };
        sooner(self.broker.deadline_ns());
        sooner(self.store.as_ref().and_then(|store| store.deadline_ns()));
        sooner(self.limits.peek().map(Limit::deadline_ns));
        sooner(self.rates.deadline_ns());
        sooner(self.events.deadline_ns());
        sooner(self.lifecycle.deadline_ns());
        for place in &self.places {
            sooner(place.respawn_at_ns);
            sooner(place.child.as_ref().and_then(|child| child.up_until_ns));
        }
        if self.ledger.excess() > 0 {
            sooner(Some(self.next_tidy_ns));
        }
        if self.consuming
            && let Some(due_s) = self.eta.next_due_s()
        {
            sooner(Some(now_ns + ((due_s - now_s).max(0.0) * 1e9) as u64));
        }
        Duration::from_nanos(deadline_ns.saturating_sub(now_ns))
    }

    fn drive_broker(&mut self, ready: &[Token]) -> Result<()> {
        self.settle_queued();
        let load = self.pool_load();
        // Any message may turn out to be for later, so no more are asked for than may be held for later.
        let left_for_later =
            self.config.eta_task_limit.map_or(u32::MAX, |limit| limit.saturating_sub(self.eta.len() as u32));
        let demand = if self.consuming { self.ledger.demand(load).min(left_for_later) } else { 0 };
        self.broker.set_demand(demand);
        let mut events = Vec::new();
        let now_ns = self.clock.monotonic_ns();
        self.broker.drive(self.poll.registry(), ready, now_ns, &mut events)?;
        let deadline_ns = self.broker.start_deadline_ns();
        for place in &self.places {
            if let Some(child) = &place.child {
                child.link.set_start_deadline(deadline_ns);
            }
        }
        self.restless = events.iter().any(|event| matches!(event, BrokerEvent::Delivered(_)));
        for event in events {
            self.on_broker_event(event);
        }
        self.restless |= !self.settlements.is_empty();
        Ok(())
    }

    fn on_broker_event(&mut self, event: BrokerEvent) {
        match event {
            BrokerEvent::Delivered(messages) => {
                for message in messages {
                    self.on_delivered(message);
                }
            }
            BrokerEvent::Connected => {
                // After every reconnection too: Python counts attempts and says so in the library's words.
                if std::mem::replace(&mut self.was_connected, true) {
                    self.lower_prefetch();
                }
                self.tell_connected(true);
                self.notices.push(Notice::new(NoticeKind::Ready));
            }
            BrokerEvent::Disconnected { error, retry_in_s } => {
                self.tell_connected(false);
                let mut notice = Notice::new(NoticeKind::Disconnected);
                notice.text = error.to_string();
                notice.seconds = retry_in_s.unwrap_or(-1.0);
                notice.requeue = self.was_connected;
                self.notices.push(notice);
            }
            BrokerEvent::LeaseLost(tags) => self.on_lease_lost(&tags),
            BrokerEvent::Returned(tags) => self.on_returned(&tags),
            BrokerEvent::SettleFailed { tag, error } => {
                self.notices.push(Notice::log(40, format!("Couldn't ack {tag}, reason:{error}")));
            }
            BrokerEvent::Degraded { text } => self.notices.push(Notice::log(30, text)),
            BrokerEvent::LeasesRenewed { .. } | BrokerEvent::Broadcast { .. } => {}
        }
    }

    /// What the pool is doing now.
    pub(super) fn pool_load(&self) -> PoolLoad {
        let mut load =
            PoolLoad { limited: self.rates.holds_long(self.config.prefetch.window_s), ..PoolLoad::default() };
        let window_ns = (self.config.prefetch.window_s * 1e9) as u64;
        let now_ns = self.clock.monotonic_ns();
        for child in self.places.iter().filter_map(|place| place.child.as_ref()) {
            if child.link.outstanding() == child.link.unstarted() {
                continue;
            }
            load.busy += 1;
            load.stuck += u32::from(self.runs_longer_than(child, window_ns, now_ns));
        }
        load
    }

    /// Whether a child has been busy with one job for longer than that.
    pub(super) fn runs_longer_than(&self, child: &Child, limit_ns: u64, now_ns: MonotonicNs) -> bool {
        let first = child.link.handed().next().and_then(|handed| self.jobs.get(handed.job));
        first.is_some_and(|job| job.started_ns != 0 && now_ns.saturating_sub(job.started_ns) > limit_ns)
    }

    pub(super) fn queue_name(&self, queue: u16) -> &str {
        if let Some(name) = self.added_queues.get(&queue) {
            return name;
        }
        match &self.config.broker {
            crate::config::BrokerConfig::Amqp(amqp) => {
                amqp.queues.get(usize::from(queue)).map_or("", |queue| queue.name.as_str())
            }
            crate::config::BrokerConfig::Kombu(kombu) => {
                kombu.queues.get(usize::from(queue)).map_or("", String::as_str)
            }
            crate::config::BrokerConfig::Redis(redis) => {
                redis.queues.get(usize::from(queue)).map_or("", String::as_str)
            }
            crate::config::BrokerConfig::Sqlite(sqlite) => {
                sqlite.queues.get(usize::from(queue)).map_or("", String::as_str)
            }
        }
    }
}
