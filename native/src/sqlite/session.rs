//! The thread of a node that owns its connection to the file.
//!
//! The broker and the result store of one node share it, so that claims, acknowledgements and results of the same
//! moment become durable by one commit. The engine's thread only exchanges lists with it under a short lock, and is
//! rung through a pipe. While a commit waits for the disk the next batch gathers by itself.
//!
//! ```text
//!  Closed --open, check, sign on--> Serving --(busy, full disk, file replaced)--> Waiting --> Closed
//!     '----(not ours, too new, no place for a file, retries exhausted)--> GivenUp
//! ```

use std::collections::VecDeque;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use mio::unix::pipe;
use mio::{Interest, Registry, Token};

use super::SqliteAddress;
use super::bell::{ALL, Bell, Word, bit_of, bit_of_node};
use super::serving::Serving;
use crate::broker::{BrokerEvent, DeliveryTag, Settlement};
use crate::clock::{Clock, MonotonicNs};
use crate::config::RetryPolicy;
use crate::error::{Error, ErrorKind, Result};
use crate::results::{ResultWrite, StoreEvent};

/// Most messages of one fetch.
const FETCH_MAX: u32 = 400;
/// Most results of one transaction.
const WRITES_MAX: usize = 2000;

/// Shortest wait before another attempt.
const RETRY_MIN_S: f64 = 0.02;

/// Sessions of this process, for bits of their own.
static SESSIONS: AtomicU64 = AtomicU64::new(0);

/// What a consuming node is.
#[derive(Debug, Clone)]
pub(crate) struct Consumer {
    pub(crate) queues: Vec<String>,
    pub(crate) fair: bool,
    pub(crate) owner: String,
    pub(crate) lease_ns: u64,
    pub(crate) max_message_bytes: u64,
}

/// What the thread tells the broker, in order.
#[derive(Debug)]
pub(crate) enum News {
    /// To be passed on.
    Event(BrokerEvent),
    /// Settlements that are in the file; some were not ours any more.
    Settled { confirmed: usize, lost: usize, requeued: usize },
    /// Others have declared us dead: everything delivered so far is theirs.
    Buried,
    /// Messages of dead nodes that went back.
    Reclaimed(u64),
}

/// Work for one transaction.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) settlements: Vec<(DeliveryTag, Settlement)>,
    pub(crate) recalls: Vec<DeliveryTag>,
    pub(crate) writes: Vec<ResultWrite>,
    /// When a renewal was asked for.
    pub(crate) renew_ns: Option<MonotonicNs>,
    /// How many messages may be fetched, and from which queues in which order.
    pub(crate) want: u32,
    pub(crate) cycle: Vec<u16>,
}

impl Work {
    /// Whether there is anything to do but fetch.
    pub(crate) fn is_only_fetch(&self) -> bool {
        self.settlements.is_empty() && self.recalls.is_empty() && self.writes.is_empty() && self.renew_ns.is_none()
    }
}

/// What both sides share.
#[derive(Debug, Default)]
pub(crate) struct State {
    settlements: Vec<(DeliveryTag, Settlement)>,
    recalls: Vec<DeliveryTag>,
    writes: VecDeque<ResultWrite>,
    renew_ns: Option<MonotonicNs>,
    /// Messages that the engine can take beyond those in `news` and those being fetched.
    demand: u32,
    fetching: u32,
    /// Active queues in reading order.
    pub(crate) cycle: Vec<u16>,
    cycle_changed: bool,
    /// Counts changes of the queues and of which of them are active.
    queues_version: u64,
    /// Queues that were not configured; their numbers follow those that were.
    added: Vec<String>,
    pub(crate) news: Vec<News>,
    pub(crate) store_events: Vec<StoreEvent>,
    /// The thread sleeps; true inside if it knows of a demand.
    asleep: Option<bool>,
    broker_bell: Option<pipe::Sender>,
    store_bell: Option<pipe::Sender>,
    clients: u32,
    /// Nothing is tried any more until there are new results.
    is_given_up: bool,
    is_stopping: bool,
    /// Ends without another word, as a crash would.
    is_abandoned: bool,
}

/// Shared by the broker, the store and the thread.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) address: SqliteAddress,
    pub(crate) consumer: Option<Consumer>,
    pub(crate) expires_s: Mutex<Option<u64>>,
    pub(crate) retry: RetryPolicy,
    pub(crate) clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Private until the file is open.
    bell: Mutex<Arc<Bell>>,
    stopped: Condvar,
    own_bit: u32,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Session {
    /// A session that has no thread yet.
    pub(crate) fn new(
        address: SqliteAddress,
        consumer: Option<Consumer>,
        retry: RetryPolicy,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>> {
        let cycle = consumer.as_ref().map_or(Vec::new(), |consumer| (0..consumer.queues.len() as u16).collect());
        let nth = SESSIONS.fetch_add(1, Ordering::Relaxed);
        let own_bit = bit_of_node(nth.wrapping_add(u64::from(std::process::id())));
        Ok(Arc::new(Self {
            address,
            consumer,
            expires_s: Mutex::new(None),
            retry,
            clock,
            state: Mutex::new(State { cycle, ..State::default() }),
            bell: Mutex::new(Arc::new(Bell::private()?)),
            stopped: Condvar::new(),
            own_bit,
            thread: Mutex::new(None),
        }))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, so what it guards is sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn bell(&self) -> Arc<Bell> {
        Arc::clone(&self.bell.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn use_bell(&self, bell: Arc<Bell>) {
        *self.bell.lock().unwrap_or_else(PoisonError::into_inner) = bell;
    }

    /// The bits to which the thread listens.
    pub(crate) fn bits(&self) -> u32 {
        self.queue_names().iter().fold(self.own_bit, |bits, queue| bits | bit_of(queue.as_bytes()))
    }

    /// The queues by number.
    pub(crate) fn queue_names(&self) -> Vec<String> {
        let configured = self.consumer.as_ref().map_or(&[][..], |consumer| &consumer.queues);
        configured.iter().chain(&self.lock().added).cloned().collect()
    }

    /// The active queues, and after how many changes that is so.
    pub(crate) fn active_queues(&self) -> (Vec<u16>, u64) {
        let state = self.lock();
        (state.cycle.clone(), state.queues_version)
    }

    /// After how many changes the queues are what they are.
    pub(crate) fn queues_version(&self) -> u64 {
        self.lock().queues_version
    }

    /// How many queues there are.
    pub(crate) fn queue_count(&self) -> usize {
        self.consumer.as_ref().map_or(0, |consumer| consumer.queues.len()) + self.lock().added.len()
    }

    /// Takes a further queue in; returns its number. It is not read before it is made active.
    ///
    /// # Errors
    ///
    /// `Config` if there are too many.
    pub(crate) fn add_queue(&self, name: &str) -> Result<u16> {
        let number = u16::try_from(self.queue_count()).ok().filter(|number| *number < u16::MAX);
        let number = number.ok_or_else(|| Error::new(ErrorKind::Config, "queues: more than 65535 queues"))?;
        let mut state = self.lock();
        state.added.push(name.to_owned());
        state.queues_version += 1;
        drop(state);
        // The thread listens to the bits of the queues that it knew when it fell asleep.
        self.poke();
        Ok(number)
    }

    /// A client begins: its pipe is registered, the thread started with the first one.
    pub(crate) fn join(self: &Arc<Self>, registry: &Registry, token: Token, is_broker: bool) -> Result<pipe::Receiver> {
        let (sender, mut receiver) = pipe::new()?;
        registry.register(&mut receiver, token, Interest::READABLE)?;
        let mut state = self.lock();
        state.clients += 1;
        *(if is_broker { &mut state.broker_bell } else { &mut state.store_bell }) = Some(sender);
        drop(state);
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let session = Arc::clone(self);
            let started = std::thread::Builder::new()
                .name("pyworker-sqlite".into())
                .spawn(move || Serving::new(session).run())
                .map_err(|error| Error::from(error).context("starting the thread of the SQLite file"))?;
            *thread = Some(started);
        }
        Ok(receiver)
    }

    /// A client ends; the last one waits for the thread. `abandon` leaves everything as a crash would.
    pub(crate) fn leave(&self, abandon: bool) {
        let mut state = self.lock();
        state.clients = state.clients.saturating_sub(1);
        state.is_abandoned |= abandon;
        if state.clients > 0 {
            return;
        }
        state.is_stopping = true;
        drop(state);
        self.poke();
        self.stopped.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic of the thread has been reported; there is nothing to add.
            let _ = thread.join();
        }
    }

    fn poke(&self) {
        self.bell().ring(Word::Queues, self.own_bit);
    }

    // -- the engine's side

    /// Hands over what a broker wants done, and takes what it is told. `demand` is what the engine can take now.
    pub(crate) fn exchange(
        &self,
        settlements: &mut Vec<(DeliveryTag, Settlement)>,
        recalls: &mut Vec<DeliveryTag>,
        renew_ns: Option<MonotonicNs>,
        demand: impl FnOnce(&[News]) -> u32,
    ) -> Vec<News> {
        let mut state = self.lock();
        state.settlements.append(settlements);
        state.recalls.append(recalls);
        if renew_ns.is_some() {
            state.renew_ns = renew_ns;
        }
        let news = std::mem::take(&mut state.news);
        state.demand = demand(&news).saturating_sub(state.fetching);
        let wakes = state
            .asleep
            .is_some_and(|knows_demand| state.has_work() || (state.demand > 0 && !knows_demand) || state.cycle_changed);
        if wakes {
            state.asleep = None;
        }
        drop(state);
        if wakes {
            self.poke();
        }
        news
    }

    /// Hands over results, and takes what became of earlier ones.
    pub(crate) fn exchange_results(&self, writes: &mut Vec<ResultWrite>) -> Vec<StoreEvent> {
        let mut state = self.lock();
        state.writes.extend(writes.drain(..));
        let events = std::mem::take(&mut state.store_events);
        let wakes = state.asleep.is_some() && state.has_work();
        let revives = state.is_given_up && !state.writes.is_empty();
        if wakes {
            state.asleep = None;
        }
        drop(state);
        if wakes {
            self.poke();
        }
        if revives {
            self.stopped.notify_all();
        }
        events
    }

    /// Starts or stops reading a queue.
    pub(crate) fn set_active(&self, queue: u16, active: bool, fair: bool) {
        let mut state = self.lock();
        let at = state.cycle.iter().position(|other| *other == queue);
        match (at, active) {
            (Some(at), false) => drop(state.cycle.remove(at)),
            (None, true) => {
                // The configured order counts unless turns are taken anyway.
                let end = state.cycle.len();
                let at = if fair { end } else { state.cycle.partition_point(|other| *other < queue) };
                state.cycle.insert(at, queue);
            }
            _ => return,
        }
        state.cycle_changed = true;
        state.queues_version += 1;
    }

    // -- the thread's side

    /// Takes the next work. Without any, the thread counts as asleep from now on.
    pub(crate) fn take(&self, looks: bool) -> Taken {
        let mut state = self.lock();
        state.asleep = None;
        if state.is_abandoned {
            return Taken::Abandoned;
        }
        let looks = looks || std::mem::take(&mut state.cycle_changed);
        let want = if looks && !state.cycle.is_empty() && !state.is_stopping { state.demand.min(FETCH_MAX) } else { 0 };
        if want == 0 && !state.has_work() {
            if state.is_stopping {
                return Taken::Stopping;
            }
            let knows_demand = state.demand > 0;
            state.asleep = Some(knows_demand);
            return Taken::Nothing { knows_demand };
        }
        state.demand -= want;
        state.fetching = want;
        let most = state.writes.len().min(WRITES_MAX);
        Taken::Work(Work {
            settlements: std::mem::take(&mut state.settlements),
            recalls: std::mem::take(&mut state.recalls),
            writes: state.writes.drain(..most).collect(),
            renew_ns: state.renew_ns.take(),
            want,
            cycle: if want > 0 { state.cycle.clone() } else { Vec::new() },
        })
    }

    /// Puts back what could not be done.
    pub(crate) fn put_back(&self, work: Work) {
        let mut state = self.lock();
        state.settlements.splice(0..0, work.settlements);
        state.recalls.splice(0..0, work.recalls);
        for write in work.writes.into_iter().rev() {
            state.writes.push_front(write);
        }
        state.renew_ns = state.renew_ns.or(work.renew_ns);
        state.demand += work.want;
        state.fetching = 0;
    }

    /// Tells both clients what happened; `used` are queues that gave messages, `fetched` how many messages came.
    pub(crate) fn tell(&self, news: Vec<News>, stored: Vec<StoreEvent>, used: &[u16], fetched: u32) {
        let mut state = self.lock();
        // What did not come is still wanted.
        state.demand += state.fetching.saturating_sub(fetched);
        state.fetching = 0;
        for queue in used {
            if let Some(at) = state.cycle.iter().position(|other| other == queue) {
                state.cycle.remove(at);
                state.cycle.push(*queue);
            }
        }
        if !news.is_empty() {
            let first = state.news.is_empty();
            state.news.extend(news);
            ring_pipe(&mut state.broker_bell, first);
        }
        if !stored.is_empty() {
            let first = state.store_events.is_empty();
            state.store_events.extend(stored);
            ring_pipe(&mut state.store_bell, first);
        }
    }

    /// Fails all results that wait: the file is given up.
    pub(crate) fn fail_writes(&self, error: &Error) {
        let mut state = self.lock();
        let failed: Vec<_> = state
            .writes
            .drain(..)
            .map(|write| StoreEvent::Failed { token: write.token, error: error.clone() })
            .collect();
        drop(state);
        self.tell(Vec::new(), failed, &[], 0);
    }

    /// Sleeps until told to stop, at most as long as given; true if told. Without a limit new results end it too.
    pub(crate) fn pause(&self, most_s: Option<f64>) -> bool {
        let mut state = self.lock();
        state.is_given_up = most_s.is_none();
        let goes_on = |state: &mut State| {
            let revives = state.is_given_up && !state.writes.is_empty();
            !state.is_stopping && !state.is_abandoned && !revives
        };
        let mut state = match most_s {
            Some(most_s) => {
                let most = std::time::Duration::from_secs_f64(most_s.clamp(0.0, 86_400.0));
                self.stopped
                    .wait_timeout_while(state, most, goes_on)
                    .map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state)
            }
            None => self.stopped.wait_while(state, goes_on).unwrap_or_else(PoisonError::into_inner),
        };
        state.is_given_up = false;
        state.is_stopping || state.is_abandoned
    }

    /// Tells other processes that messages are there to be taken.
    pub(crate) fn ring_queues(&self) {
        self.bell().ring(Word::Queues, ALL);
    }
}

impl State {
    fn has_work(&self) -> bool {
        !self.settlements.is_empty() || !self.recalls.is_empty() || !self.writes.is_empty() || self.renew_ns.is_some()
    }
}

/// What there is to do.
#[derive(Debug)]
pub(crate) enum Taken {
    Work(Work),
    Nothing { knows_demand: bool },
    Stopping,
    Abandoned,
}

fn ring_pipe(sender: &mut Option<pipe::Sender>, first: bool) {
    if first && let Some(sender) = sender {
        // A full pipe wakes as well.
        let _ = sender.write(&[1]);
    }
}

/// When to try again, by the user's policy.
#[derive(Debug)]
pub(crate) struct Attempts {
    policy: RetryPolicy,
    failures: u32,
    ever_opened: bool,
}

impl Attempts {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        Self { policy, failures: 0, ever_opened: false }
    }

    /// A transaction succeeded.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
        self.ever_opened = true;
    }

    /// Seconds until the next attempt; `None` to give up.
    pub(crate) fn fail(&mut self, error: &Error) -> Option<f64> {
        let wanted = if self.ever_opened { self.policy.retry } else { self.policy.retry_on_startup };
        let hopeless = matches!(error.kind(), ErrorKind::Config | ErrorKind::ServerRefused | ErrorKind::Internal);
        if hopeless || !wanted {
            return None;
        }
        let wait_s = self.policy.delay_s(self.failures)?;
        self.failures += 1;
        Some(wait_s.max(RETRY_MIN_S))
    }
}
