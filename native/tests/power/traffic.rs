//! Two publishers and a worker with a result store on one file, and what each of them was promised.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use pyworker_native::broker::sqlite::SqliteBroker;
use pyworker_native::broker::{DeliveryTag, Settlement, TokenRange};
use pyworker_native::clock::{SystemClock, monotonic_ns};
use pyworker_native::config::{QueueOrder, RetryPolicy};
use pyworker_native::results::sqlite::SqliteResultStore;
use pyworker_native::results::{ResultStore, ResultWrite};
use pyworker_native::sqlite::client::SqliteClient;
use pyworker_native::sqlite::{SqliteAddress, SqliteBrokerConfig, SqliteResultConfig};

use super::chance::Chance;
use crate::support::driver::{Driver, id_of as id_of_delivery};
use crate::support::message::envelope;

pub const QUEUE: &str = "q";
const PUBLISHERS: u64 = 2;
const MOST_IN_A_BATCH: u64 = 40;
const MOST_PADDING: u64 = 20_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// What was said to be safe.
#[derive(Debug, Clone, Default)]
pub struct Promised {
    /// Publishing returned.
    pub published: Vec<String>,
    /// The store confirmed the result.
    pub stored: Vec<String>,
    /// The broker confirmed the acknowledgement.
    pub acknowledged: Vec<String>,
}

/// Everything that a test knows.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub promised: Promised,
    /// Publishing began.
    pub tried: Vec<String>,
    /// Ran, as far as that goes here.
    pub executed: Vec<String>,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Seen>,
    stops: AtomicBool,
    next: AtomicU64,
}

/// The threads.
#[derive(Debug)]
pub struct Traffic {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

pub fn address(folder: &Path, durable: bool) -> SqliteAddress {
    SqliteAddress { path: folder.join("queue.db"), durable, busy_timeout_ms: 20_000 }
}

/// The id inside an envelope.
pub fn id_of(body: &[u8]) -> String {
    let message: serde_json::Value = serde_json::from_slice(body).expect("an envelope");
    message["headers"]["id"].as_str().expect("an id").to_owned()
}

impl Traffic {
    pub fn start(folder: &Path, durable: bool, seed: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let mut threads: Vec<JoinHandle<()>> = (0..PUBLISHERS)
            .map(|number| {
                let (shared, address) = (Arc::clone(&shared), address(folder, durable));
                std::thread::spawn(move || publish(&shared, address, Chance::new(seed ^ number)))
            })
            .collect();
        let worker = (Arc::clone(&shared), address(folder, durable));
        threads.push(std::thread::spawn(move || work(&worker.0, worker.1)));
        Self { shared, threads }
    }

    pub fn wait_for(&self, published: usize) {
        let begun = Instant::now();
        while self.shared.seen.lock().expect("sound").promised.published.len() < published {
            assert!(begun.elapsed() < PATIENCE, "publishing hangs");
            assert!(self.threads.iter().all(|thread| !thread.is_finished()), "a thread has ended");
            std::thread::yield_now();
        }
    }

    pub fn promised(&self) -> Promised {
        self.shared.seen.lock().expect("sound").promised.clone()
    }

    pub fn everything(&self) -> Seen {
        self.shared.seen.lock().expect("sound").clone()
    }

    pub fn stop(self) {
        self.shared.stops.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("the thread was sound");
        }
    }
}

impl Shared {
    fn note(&self, note: impl FnOnce(&mut Seen)) {
        note(&mut self.seen.lock().expect("sound"));
    }

    fn goes_on(&self) -> bool {
        !self.stops.load(Ordering::SeqCst)
    }
}

fn publish(shared: &Shared, address: SqliteAddress, mut chance: Chance) {
    let client = SqliteClient::open(address, vec![0, 3, 6, 9]).expect("the file opens");
    while shared.goes_on() {
        let count = if chance.one_in(2) { 1 } else { 1 + chance.below(MOST_IN_A_BATCH) };
        let ids: Vec<String> =
            (0..count).map(|_| format!("id-{}", shared.next.fetch_add(1, Ordering::SeqCst))).collect();
        let bodies: Vec<Vec<u8>> = ids.iter().map(|id| padded(id, chance.below(MOST_PADDING) as usize)).collect();
        shared.note(|seen| seen.tried.extend(ids.iter().cloned()));
        client.publish(bodies.iter().map(|body| (QUEUE, 0, body.as_slice()))).expect("published");
        shared.note(|seen| seen.promised.published.extend(ids));
    }
}

/// Large messages fill the log, so that it is copied into the database now and then.
fn padded(id: &str, padding: usize) -> Vec<u8> {
    let text = String::from_utf8(envelope(id, 0)).expect("text");
    text.replace(r#""(1, 2)""#, &format!("\"{}\"", "x".repeat(padding))).into_bytes()
}

fn work(shared: &Shared, address: SqliteAddress) {
    let retry = RetryPolicy {
        retry: true,
        retry_on_startup: true,
        max_retries: None,
        interval_start_s: 0.02,
        interval_step_s: 0.02,
        interval_max_s: 0.1,
    };
    let config = SqliteBrokerConfig {
        address: address.clone(),
        queues: vec![QUEUE.into()],
        priority_steps: vec![0, 3, 6, 9],
        queue_order: QueueOrder::RoundRobin,
        visibility_timeout_s: 3600.0,
        owner: "worker".into(),
        retry,
        max_message_bytes: 1 << 30,
    };
    let broker = SqliteBroker::new(config, Arc::new(SystemClock)).expect("a broker");
    let mut driver = Driver::connected(Box::new(broker));
    let mut store = Store::start(SqliteResultConfig { address, expires_s: Some(3600), retry });
    driver.broker.set_demand(u32::MAX);
    let mut done = 0;
    while shared.goes_on() {
        driver.turn(Duration::from_millis(5));
        if driver.delivered.len() == done {
            continue;
        }
        let ids: Vec<String> = driver.delivered[done..].iter().map(id_of_delivery).collect();
        let acks: Vec<(DeliveryTag, Settlement)> =
            driver.delivered[done..].iter().map(|incoming| (incoming.tag, Settlement::Ack)).collect();
        done = driver.delivered.len();
        shared.note(|seen| seen.executed.extend(ids.iter().cloned()));
        store.keep(&ids);
        shared.note(|seen| seen.promised.stored.extend(ids.iter().cloned()));
        driver.settle(&acks);
        shared.note(|seen| seen.promised.acknowledged.extend(ids));
    }
    store.store.stop(store.poll.registry());
    driver.stop();
}

/// A result store driven as the engine drives it.
struct Store {
    store: SqliteResultStore,
    poll: Poll,
}

impl Store {
    fn start(config: SqliteResultConfig) -> Self {
        let poll = Poll::new().expect("a poller");
        let mut store = SqliteResultStore::new(config, Arc::new(SystemClock)).expect("a store");
        store.start(poll.registry(), TokenRange { first: 7, count: 2 }, monotonic_ns()).expect("the store starts");
        Self { store, poll }
    }

    /// Stores results under their ids and waits until all are confirmed.
    fn keep(&mut self, ids: &[String]) {
        for (token, id) in ids.iter().enumerate() {
            self.store.put(ResultWrite {
                token: token as u64,
                key: id.as_bytes().into(),
                value: id.as_bytes().into(),
                is_success: true,
                protected: true,
            });
        }
        let (begun, mut ready, mut said) = (Instant::now(), Vec::new(), Vec::new());
        let mut events = Events::with_capacity(4);
        while self.store.pending() > 0 {
            assert!(begun.elapsed() < PATIENCE, "storing hangs: {said:?}");
            self.store.drive(self.poll.registry(), &ready, monotonic_ns(), &mut said).expect("driving goes on");
            self.poll.poll(&mut events, Some(Duration::from_millis(5))).expect("the poller works");
            ready = events.iter().map(|event| event.token()).collect::<Vec<Token>>();
        }
    }
}
