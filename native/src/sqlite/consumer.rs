//! A consumer that blocks: kombu's channels. Their processes sign on like nodes, so that what they held returns when
//! they die.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::client::SqliteClient;
use super::database::Commit;
use super::liveness::Liveness;
use super::messages::{self, Fetched, Source};
use super::{consuming, maintenance, nodes};
use crate::broker::Settlement;
use crate::clock::monotonic_ns;
use crate::error::Result;

/// How often a consumer of queues signs, at most, and hands back what the dead held.
const SIGN_NS: u64 = 4_000_000_000;

/// What a consumer takes: number, place of the queue, how often it was handed out before, envelope.
pub type Delivery = (u64, u16, u32, Vec<u8>);

/// A queue to fetch from.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its name.
    pub queue: &'a str,
    /// Nobody will acknowledge what comes from it: it leaves the file when it is handed out.
    pub forgets: bool,
}

/// One channel's consumer. To be used by one thread at a time; a fork's copy signs on anew.
#[derive(Debug)]
pub struct SqliteConsumer {
    owner: String,
    lease_ns: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pid: u32,
    node: i64,
    liveness: Option<Liveness>,
    boot: String,
    signed_ns: u64,
    consumed: HashMap<String, Consumed>,
}

/// A queue that is consumed. The file keeps its number as long as it is.
#[derive(Debug)]
struct Consumed {
    id: i64,
    /// The fan-out exchange to which the channel listens by it.
    exchange: Option<String>,
}

impl SqliteConsumer {
    /// A consumer that signs on when it first consumes or fetches. `lease` is how long it may be silent.
    #[must_use]
    pub fn new(owner: String, lease: Duration) -> Self {
        let lease_ns = u64::try_from(lease.as_nanos()).unwrap_or(u64::MAX >> 1).min(u64::MAX >> 1);
        Self { owner, lease_ns, state: Mutex::new(State::default()) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to consume a queue, made if it is new: it does not expire meanwhile. `exchange` is that of a queue bound
    /// to a fan-out exchange.
    pub fn consume(&self, client: &SqliteClient, queue: &str, exchange: Option<&str>) -> Result<()> {
        let mut state = self.lock();
        self.sign(client, &mut state, SIGN_NS)?;
        let node = state.node;
        let id = client.write(Commit::Relaxed, |transaction| {
            let id = messages::queue_id(transaction, queue)?;
            consuming::begin(transaction, id, node, exchange)?;
            Ok(id)
        })?;
        state.consumed.insert(queue.to_owned(), Consumed { id, exchange: exchange.map(str::to_owned) });
        Ok(())
    }

    /// Ends consuming a queue.
    pub fn cancel(&self, client: &SqliteClient, queue: &str) -> Result<()> {
        let mut state = self.lock();
        let node = state.node;
        match state.consumed.remove(queue) {
            Some(consumed) if node != 0 && state.pid == std::process::id() => {
                let now_s = client.now_s();
                client.write(Commit::Relaxed, |transaction| consuming::end(transaction, consumed.id, node, now_s))
            }
            _ => Ok(()),
        }
    }

    /// Takes up to `want` messages of these queues, in turn: number, position of the queue, how often it was handed
    /// out before, envelope.
    pub fn fetch(&self, client: &SqliteClient, asked: &[Asked<'_>], want: usize) -> Result<Vec<Delivery>> {
        let mut state = self.lock();
        // Who only listens to broadcasts holds nothing that others wait for, and should not write when nothing happens.
        let often = if asked.is_empty() { u64::MAX } else { SIGN_NS };
        self.sign(client, &mut state, often)?;
        let now_s = client.now_s();
        let (sources, unused, any) = client.read(|connection| {
            let (sources, unused) = sources_of(connection, &state.consumed, asked, now_s)?;
            let mut any = messages::next_due_s(connection)?.is_some_and(|due_s| due_s <= now_s);
            let mut head = connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM ready WHERE queue = ?1)")?;
            for source in &sources {
                any = any || head.query_row([source.id], |row| row.get(0))?;
            }
            Ok((sources, unused, any))
        })?;
        if !unused.is_empty() {
            client.write(Commit::Relaxed, |transaction| {
                unused.iter().try_for_each(|queue| consuming::touch(transaction, *queue, now_s))
            })?;
        }
        if !any {
            return Ok(Vec::new());
        }
        let node = state.node;
        let fetched: Vec<Fetched> = client.write(Commit::Relaxed, |transaction| {
            messages::promote(transaction, now_s)?;
            let fetched = messages::fetch(transaction, &sources, true, want, node)?.0;
            for message in fetched.iter().filter(|message| asked[usize::from(message.queue)].forgets) {
                messages::settle(transaction, message.id, Settlement::Ack, node)?;
            }
            Ok(fetched)
        })?;
        Ok(fetched.into_iter().map(|message| (message.id, message.queue, message.deliveries, message.body)).collect())
    }

    /// Ends deliveries; those that are not ours any more are passed over.
    pub fn settle(&self, client: &SqliteClient, ids: &[u64], how: Settlement) -> Result<()> {
        let node = self.lock().node;
        client.write(Commit::Durable, |transaction| {
            ids.iter().try_for_each(|id| messages::settle(transaction, *id, how, node).map(drop))
        })?;
        if how != Settlement::Ack && how != Settlement::Reject {
            client.ring(super::bell::Word::Queues, super::bell::ALL);
        }
        Ok(())
    }

    /// Signs off; what is still held is handed back by others.
    pub fn close(&self, client: &SqliteClient) -> Result<()> {
        let mut state = self.lock();
        let node = std::mem::take(&mut state.node);
        state.liveness = None;
        state.consumed.clear();
        if node == 0 || state.pid != std::process::id() {
            return Ok(());
        }
        let now_s = client.now_s();
        client.write(Commit::Relaxed, |transaction| nodes::sign_off(transaction, node, now_s))
    }

    /// Signs on, or again after a while, and tidies up after others.
    fn sign(&self, client: &SqliteClient, state: &mut State, interval_ns: u64) -> Result<()> {
        let now_ns = monotonic_ns();
        if state.pid != std::process::id() {
            let liveness = Liveness::open(&client.address().path)?;
            let consumed = std::mem::take(&mut state.consumed);
            *state = State { pid: std::process::id(), liveness, boot: nodes::boot_id(), consumed, ..State::default() };
        }
        if state.node != 0 && now_ns < state.signed_ns + interval_ns.min(self.lease_ns / 3) {
            return Ok(());
        }
        let (before, boot, liveness) = (state.node, &state.boot, state.liveness.as_ref());
        let mut renewed = HashMap::new();
        let (node, returned) = client.write(Commit::Relaxed, |transaction| {
            let now_s = client.now_s();
            let mut node = before;
            if node == 0 || !nodes::renew(transaction, node, now_ns)? {
                node = nodes::sign_on(transaction, &self.owner, boot, now_ns, self.lease_ns)?;
                liveness.map(|liveness| liveness.hold(node));
                renewed.clear();
                for (queue, consumed) in &state.consumed {
                    let id = messages::queue_id(transaction, queue)?;
                    consuming::begin(transaction, id, node, consumed.exchange.as_deref())?;
                    renewed.insert(queue.clone(), id);
                }
            }
            maintenance::tidy(transaction, now_s)?;
            Ok((node, nodes::reclaim(transaction, node, boot, (now_ns, now_s), liveness)?))
        })?;
        for (queue, id) in renewed {
            if let Some(consumed) = state.consumed.get_mut(&queue) {
                consumed.id = id;
            }
        }
        state.node = node;
        state.signed_ns = now_ns;
        if returned > 0 {
            client.ring(super::bell::Word::Queues, super::bell::ALL);
        }
        Ok(())
    }
}

/// The numbers of the queues that the file has, and of those that expire unless they are used. What is not consumed is
/// looked up each time: it may have been deleted, and made anew, meanwhile.
fn sources_of(
    connection: &Connection,
    consumed: &HashMap<String, Consumed>,
    asked: &[Asked<'_>],
    now_s: f64,
) -> rusqlite::Result<(Vec<Source>, Vec<i64>)> {
    let (mut sources, mut unused) = (Vec::with_capacity(asked.len()), Vec::new());
    let mut find = connection
        .prepare_cached("SELECT id, expires_s IS NOT NULL AND used_s + 1 < ?2 FROM queues WHERE name = ?1")?;
    for (index, asked) in asked.iter().enumerate() {
        let index = index as u16;
        if let Some(consumed) = consumed.get(asked.queue) {
            sources.push(Source { index, id: consumed.id });
            continue;
        }
        let found = find.query_row(params![asked.queue, now_s], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        if let Some((id, expires)) = found {
            sources.push(Source { index, id });
            if expires {
                unused.push(id);
            }
        }
    }
    Ok((sources, unused))
}
