//! A consumer that blocks: kombu's channels. Their processes sign on like nodes, so that what they held returns when
//! they die.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::client::SqliteClient;
use super::database::Commit;
use super::liveness::Liveness;
use super::messages::{self, Fetched, Source};
use super::{maintenance, nodes};
use crate::broker::Settlement;
use crate::clock::monotonic_ns;
use crate::error::Result;

/// How often a consumer signs, at most, and hands back what the dead held.
const SIGN_NS: u64 = 4_000_000_000;

/// What a consumer takes: number, place of the queue, how often it was handed out before, envelope.
pub type Delivery = (u64, u16, u32, Vec<u8>);

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
    sources: HashMap<String, i64>,
}

impl SqliteConsumer {
    /// A consumer that signs on when it first fetches. `lease` is how long it may be silent.
    #[must_use]
    pub fn new(owner: String, lease: Duration) -> Self {
        let lease_ns = u64::try_from(lease.as_nanos()).unwrap_or(u64::MAX >> 1).min(u64::MAX >> 1);
        Self { owner, lease_ns, state: Mutex::new(State::default()) }
    }

    /// Takes up to `want` messages of these queues, in turn: number, position of the queue, how often it was handed
    /// out before, envelope.
    pub fn fetch(&self, client: &SqliteClient, queues: &[&str], want: usize) -> Result<Vec<Delivery>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.sign(client, &mut state)?;
        self.learn(client, &mut state, queues)?;
        let mut sources = Vec::with_capacity(queues.len());
        for (index, queue) in queues.iter().enumerate() {
            sources.extend(state.sources.get(*queue).map(|id| Source { index: index as u16, id: *id }));
        }
        let now_s = client.now_s();
        let any = client.read(|connection| {
            let due = messages::next_due_s(connection)?.is_some_and(|due_s| due_s <= now_s);
            let mut head = connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM ready WHERE queue = ?1)")?;
            let mut any = due;
            for source in &sources {
                any = any || head.query_row([source.id], |row| row.get(0))?;
            }
            Ok(any)
        })?;
        if !any {
            return Ok(Vec::new());
        }
        let node = state.node;
        let fetched: Vec<Fetched> = client.write(Commit::Relaxed, |transaction| {
            messages::promote(transaction, now_s)?;
            Ok(messages::fetch(transaction, &sources, true, want, node)?.0)
        })?;
        Ok(fetched.into_iter().map(|message| (message.id, message.queue, message.deliveries, message.body)).collect())
    }

    /// Ends deliveries; those that are not ours any more are passed over.
    pub fn settle(&self, client: &SqliteClient, ids: &[u64], how: Settlement) -> Result<()> {
        let node = self.state.lock().unwrap_or_else(PoisonError::into_inner).node;
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
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let node = std::mem::take(&mut state.node);
        state.liveness = None;
        if node == 0 || state.pid != std::process::id() {
            return Ok(());
        }
        client.write(Commit::Relaxed, |transaction| nodes::sign_off(transaction, node))
    }

    fn sign(&self, client: &SqliteClient, state: &mut State) -> Result<()> {
        let now_ns = monotonic_ns();
        if state.pid != std::process::id() {
            let liveness = Liveness::open(&client.address().path).ok();
            *state = State { pid: std::process::id(), liveness, boot: nodes::boot_id(), ..State::default() };
        }
        if state.node != 0 && now_ns < state.signed_ns + SIGN_NS {
            return Ok(());
        }
        let (before, boot, liveness) = (state.node, &state.boot, state.liveness.as_ref());
        let sources = state.sources.values();
        let (node, returned) = client.write(Commit::Relaxed, |transaction| {
            let mut node = before;
            if node == 0 || !nodes::renew(transaction, node, now_ns)? {
                node = nodes::sign_on(transaction, &self.owner, boot, now_ns, self.lease_ns)?;
                liveness.map(|liveness| liveness.hold(node));
            }
            let now_s = client.now_s();
            let mut used =
                transaction.prepare_cached("UPDATE queues SET used_s = ?2 WHERE id = ?1 AND expires_s IS NOT NULL")?;
            for queue in sources {
                used.execute(rusqlite::params![queue, now_s])?;
            }
            maintenance::tidy(transaction, now_s)?;
            Ok((node, nodes::reclaim(transaction, node, boot, now_ns, liveness)?))
        })?;
        state.node = node;
        state.signed_ns = now_ns;
        if returned > 0 {
            client.ring(super::bell::Word::Queues, super::bell::ALL);
        }
        Ok(())
    }

    fn learn(&self, client: &SqliteClient, state: &mut State, queues: &[&str]) -> Result<()> {
        let unknown: Vec<&str> = queues.iter().copied().filter(|queue| !state.sources.contains_key(*queue)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let found = client.write(Commit::Relaxed, |transaction| {
            unknown
                .iter()
                .map(|queue| Ok(((*queue).to_owned(), messages::queue_id(transaction, queue)?)))
                .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        state.sources.extend(found);
        Ok(())
    }
}
