//! The blocking handle of everybody but a node's engine: publishers, readers of results, kombu's transport, commands.
//!
//! Shared by all threads of a process and inherited by its forks, each of which opens connections of its own. Threads
//! that publish at the same time share a commit: the first one writes what the others have queued meanwhile.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

use super::SqliteAddress;
use super::bell::{ALL, Bell, Word, bit_of};
use super::chords::{self, ChordPart, Counted};
use super::consuming;
use super::database::{Commit, Database};
use super::exchanges::{self, Binding};
use super::liveness::Liveness;
use super::maintenance::{self, QueueReport};
use super::messages::{self, NewMessage};
use super::results::{self, NewResult};
use super::side_clock::clock_of;
use crate::clock::{Clock, monotonic_ns};
use crate::error::{Error, ErrorKind, Result};
use crate::publish::per_process::PerProcess;

/// Who waits for broadcasts waits for this name too.
const FANOUT_NAME: &[u8] = b"\0fanout";

/// How often waiters look where nobody can ring.
const POLL: Duration = Duration::from_millis(10);

/// A message on its way, owned because another thread may write it.
#[derive(Debug)]
struct Queued {
    queue: String,
    step: u8,
    due_s: Option<f64>,
    expires_s: Option<f64>,
    body: Vec<u8>,
}

/// What one thread wants published, and how it ended.
#[derive(Debug)]
struct Batch {
    messages: Vec<Queued>,
    outcome: Arc<Mutex<Option<Result<()>>>>,
}

/// One process's own part.
#[derive(Debug)]
struct Local {
    /// Made when first used, after the file.
    bell: OnceLock<Bell>,
    writer: Mutex<Option<Database>>,
    /// Readers do not wait for a commit.
    reader: Mutex<Option<Database>>,
    gathering: Mutex<Vec<Batch>>,
}

/// A file. See the module's text.
#[derive(Debug)]
pub struct SqliteClient {
    address: SqliteAddress,
    priority_steps: Vec<u8>,
    clock: Arc<dyn Clock>,
    local: PerProcess<Local>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while it is held leaves at worst a closed connection behind.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Local {
    fn new() -> Self {
        Self {
            bell: OnceLock::new(),
            writer: Mutex::new(None),
            reader: Mutex::new(None),
            gathering: Mutex::new(Vec::new()),
        }
    }
}

impl SqliteClient {
    /// Opens a file, making it if it is not there.
    ///
    /// # Errors
    ///
    /// `Config` if the place or the file is not to be used, with the reason.
    pub fn open(address: SqliteAddress, mut priority_steps: Vec<u8>) -> Result<Self> {
        // Says now what is wrong, and before a side file is made.
        drop(Database::open(&address)?);
        priority_steps.sort_unstable();
        let local = PerProcess::new(Local::new());
        let clock = clock_of(&address);
        Ok(Self { address, priority_steps, clock, local })
    }

    /// Seconds since the epoch by the file's clock.
    pub(crate) fn now_s(&self) -> f64 {
        self.clock.wall_s()
    }

    fn local(&self) -> &Local {
        self.local.get(Local::new, |_| {})
    }

    fn with<T>(&self, slot: &Mutex<Option<Database>>, work: impl FnOnce(&mut Database) -> Result<T>) -> Result<T> {
        let mut slot = lock(slot);
        self.on(&mut slot, work)
    }

    /// Runs something on an open connection; one whose file was deleted or replaced is opened anew.
    fn on<T>(&self, slot: &mut Option<Database>, work: impl FnOnce(&mut Database) -> Result<T>) -> Result<T> {
        if slot.as_ref().is_some_and(|database| !database.is_current()) {
            *slot = None;
        }
        let database = match slot {
            Some(database) => database,
            None => slot.insert(Database::open(&self.address)?),
        };
        work(database)
    }

    pub(crate) fn write<T>(&self, commit: Commit, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        self.with(&self.local().writer, |database| database.write(commit, work))
    }

    pub(crate) fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        self.with(&self.local().reader, |database| database.read(work))
    }

    pub(crate) fn ring(&self, word: Word, bits: u32) {
        if let Some(bell) = self.bell() {
            bell.ring(word, bits);
        }
    }

    fn bell(&self) -> Option<&Bell> {
        let slot = &self.local().bell;
        match slot.get() {
            Some(bell) => Some(bell),
            // Tried again the next time if there is no room for it now.
            None => Bell::open(&self.address.path).ok().map(|bell| slot.get_or_init(|| bell)),
        }
    }

    /// Closes this process's connections. The handle stays usable.
    pub fn close(&self) {
        *lock(&self.local().writer) = None;
        *lock(&self.local().reader) = None;
    }

    // -- waiting

    /// What a word says; read it before looking for what is waited for.
    #[must_use]
    pub fn seen(&self, word: Word) -> u32 {
        self.bell().map_or(0, |bell| bell.read(word))
    }

    /// Wakes those who wait for these names, though nothing came.
    pub fn wake(&self, word: Word, names: &[&[u8]]) {
        self.ring(word, names.iter().fold(0, |bits, name| bits | bit_of(name)));
    }

    /// Waits until something of these names may have come, at most for the time given. True means: look.
    #[must_use]
    pub fn wait(&self, word: Word, seen: u32, names: &[&[u8]], most: Duration) -> bool {
        let Some(bell) = self.bell() else {
            std::thread::sleep(most.min(POLL));
            return true;
        };
        let bits = if names.is_empty() { ALL } else { names.iter().fold(0, |bits, name| bits | bit_of(name)) };
        let most = if bell.is_shared { most } else { most.min(POLL) };
        if bell.read(word) == seen {
            bell.wait(word, seen, bits, most);
        }
        !bell.is_shared || bell.read(word) != seen
    }

    // -- messages

    /// Publishes messages in order: queue, priority, envelope. They are on the disk when this returns.
    ///
    /// # Errors
    ///
    /// Nothing was published.
    pub fn publish<'a>(&self, messages: impl IntoIterator<Item = (&'a str, i64, &'a [u8])>) -> Result<()> {
        let queued: Vec<Queued> = messages
            .into_iter()
            .map(|(queue, priority, body)| {
                let (due_s, expires_s) = messages::times_of(body);
                let step = messages::step_of(&self.priority_steps, priority);
                Queued { queue: queue.to_owned(), step, due_s, expires_s, body: body.to_vec() }
            })
            .collect();
        if queued.is_empty() {
            return Ok(());
        }
        let local = self.local();
        let outcome = Arc::new(Mutex::new(None));
        lock(&local.gathering).push(Batch { messages: queued, outcome: Arc::clone(&outcome) });
        let mut writer = lock(&local.writer);
        if let Some(ended) = lock(&outcome).take() {
            // Whoever had the connection before us wrote ours along.
            return ended;
        }
        let batches = std::mem::take(&mut *lock(&local.gathering));
        let ended = self.write_batches(&mut writer, &batches);
        for batch in &batches {
            *lock(&batch.outcome) = Some(ended.clone());
        }
        ended
    }

    fn write_batches(&self, writer: &mut Option<Database>, batches: &[Batch]) -> Result<()> {
        let messages: Vec<NewMessage<'_>> = batches
            .iter()
            .flat_map(|batch| &batch.messages)
            .map(|queued| NewMessage {
                queue: &queued.queue,
                step: queued.step,
                due_s: queued.due_s,
                expires_s: queued.expires_s,
                body: &queued.body,
            })
            .collect();
        self.on(writer, |database| {
            database.write(Commit::Durable, |transaction| messages::publish(transaction, &messages, self.now_s()))
        })?;
        let bits = messages.iter().fold(0, |bits, message| bits | bit_of(message.queue.as_bytes()));
        self.ring(Word::Queues, bits);
        Ok(())
    }

    /// How many messages wait in a queue.
    pub fn size(&self, queue: &str) -> Result<u64> {
        self.read(|connection| maintenance::size(connection, queue))
    }

    /// Deletes the messages of a queue that nobody holds; returns how many.
    pub fn purge(&self, queue: &str) -> Result<u64> {
        self.write(Commit::Durable, |transaction| maintenance::purge(transaction, queue))
    }

    /// Makes a queue known. One that nobody uses for `expires_s` goes away.
    pub fn declare_queue(&self, queue: &str, expires_s: Option<f64>) -> Result<()> {
        self.write(Commit::Relaxed, |transaction| {
            let id = messages::queue_id(transaction, queue)?;
            if expires_s.is_some() {
                transaction.execute(
                    "UPDATE queues SET expires_s = ?2, used_s = ?3 WHERE id = ?1",
                    rusqlite::params![id, expires_s, self.now_s()],
                )?;
            }
            Ok(())
        })
    }

    /// Deletes a queue, its bindings and its messages.
    pub fn delete_queue(&self, queue: &str) -> Result<()> {
        self.write(Commit::Durable, |transaction| maintenance::delete_queue(transaction, queue))
    }

    /// Every queue and what it holds.
    pub fn queues(&self) -> Result<Vec<QueueReport>> {
        self.read(maintenance::report)
    }

    // -- results and other values

    /// The values of keys, in their order.
    pub fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        let now_s = self.now_s() as i64;
        self.read(|connection| keys.iter().map(|key| results::load(connection, key, now_s)).collect())
    }

    /// Stores a value. A stored success is left alone if `protected`.
    pub fn set(
        &self,
        key: &[u8],
        value: &[u8],
        is_success: bool,
        protected: bool,
        expires_s: Option<i64>,
    ) -> Result<()> {
        let now_s = self.now_s() as i64;
        let expires_s = expires_s.map(|seconds| now_s + seconds);
        self.write(Commit::Durable, |transaction| {
            results::store(transaction, NewResult { key, value, is_success, protected, expires_s, now_s })
        })?;
        self.ring(Word::Results, bit_of(key));
        Ok(())
    }

    /// Forgets keys.
    pub fn delete(&self, keys: &[&[u8]]) -> Result<()> {
        self.write(Commit::Durable, |transaction| keys.iter().try_for_each(|key| results::forget(transaction, key)))
    }

    /// Adds to a number under a key, which counts from zero, and returns it.
    pub fn add(&self, key: &[u8], by: i64, expires_s: Option<i64>) -> Result<i64> {
        let expires_s = expires_s.map(|seconds| self.now_s() as i64 + seconds);
        self.write(Commit::Durable, |transaction| results::add(transaction, key, by, expires_s))
    }

    /// Gives a key another time to end.
    pub fn expire(&self, key: &[u8], expires_s: Option<i64>) -> Result<()> {
        let expires_s = expires_s.map(|seconds| self.now_s() as i64 + seconds);
        self.write(Commit::Durable, |transaction| results::expire(transaction, key, expires_s))
    }

    /// Says how many parts a chord has; it may be applied anew.
    pub fn set_chord_size(&self, chord: &str, size: i64, expires_s: Option<i64>) -> Result<()> {
        let expires_s = expires_s.map(|seconds| self.now_s() + seconds as f64);
        self.write(Commit::Durable, |transaction| chords::set_size(transaction, chord, size, expires_s))
    }

    /// Says that a running chord has one part more.
    pub fn grow_chord(&self, chord: &str) -> Result<()> {
        self.write(Commit::Durable, |transaction| chords::grow(transaction, chord))
    }

    /// Counts a part of a chord; true if it was the last one and the body is the caller's to send.
    pub fn add_chord_part(&self, part: &ChordPart<'_>) -> Result<Counted> {
        self.write(Commit::Durable, |transaction| chords::add_part(transaction, part, self.now_s()))
    }

    /// The values of a chord's parts, in order.
    pub fn chord_parts(&self, chord: &str) -> Result<Vec<Vec<u8>>> {
        self.read(|connection| chords::parts(connection, chord))
    }

    /// Prolongs the claim of a chord's body; false if it is no longer the token's.
    pub fn extend_chord_claim(&self, chord: &str, token: &str, claim_s: f64) -> Result<bool> {
        self.write(Commit::Durable, |transaction| chords::extend(transaction, chord, token, self.now_s() + claim_s))
    }

    /// The body was sent by the holder of a token: the parts can go.
    pub fn finish_chord(&self, chord: &str, token: &str) -> Result<()> {
        self.write(Commit::Durable, |transaction| chords::finish(transaction, chord, token, self.now_s()))
    }

    // -- exchanges

    /// Binds a queue to an exchange.
    pub fn bind(&self, exchange: &str, binding: &Binding) -> Result<()> {
        self.write(Commit::Relaxed, |transaction| exchanges::bind(transaction, exchange, binding))
    }

    /// Undoes a binding.
    pub fn unbind(&self, exchange: &str, binding: &Binding) -> Result<()> {
        self.write(Commit::Relaxed, |transaction| exchanges::unbind(transaction, exchange, binding))
    }

    /// What is bound to an exchange.
    pub fn bindings(&self, exchange: &str) -> Result<Vec<Binding>> {
        self.read(|connection| exchanges::bindings(connection, exchange))
    }

    /// The queues by which living processes listen to a fan-out exchange.
    pub fn listeners(&self, exchange: &str) -> Result<Vec<String>> {
        let liveness = Liveness::open(&self.address.path)?;
        self.read(|connection| consuming::listeners(connection, exchange, monotonic_ns(), liveness.as_ref()))
    }

    /// Sends a message to everybody who listens to an exchange now.
    pub fn broadcast(&self, exchange: &str, body: &[u8]) -> Result<()> {
        self.write(Commit::Relaxed, |transaction| exchanges::broadcast(transaction, exchange, body, self.now_s()))?;
        self.ring(Word::Queues, bit_of(FANOUT_NAME));
        Ok(())
    }

    /// The number of the last broadcast.
    pub fn last_broadcast(&self) -> Result<i64> {
        self.read(exchanges::last_broadcast)
    }

    /// Broadcasts after a number: their numbers, exchanges and bodies.
    pub fn broadcasts_after(&self, after: i64, most: usize) -> Result<Vec<(i64, String, Vec<u8>)>> {
        self.read(|connection| exchanges::broadcasts_after(connection, after, most))
    }

    // -- time

    /// How far the file's clock was moved ahead, in seconds.
    #[must_use]
    pub fn clock_ahead_s(&self) -> f64 {
        if self.address.durable { 0.0 } else { self.bell().map_or(0.0, |bell| bell.clock_ahead().as_secs_f64()) }
    }

    /// Moves the file's clock ahead for everybody who uses the file, and wakes them: what is due by then is due now.
    ///
    /// # Errors
    ///
    /// `Config` for a durable file, whose clock is the machine's, and where there is no side file to keep it.
    pub fn move_clock(&self, by: Duration) -> Result<()> {
        let refused = |why: &str| Err(Error::new(ErrorKind::Config, format!("the clock cannot be moved: {why}")));
        if self.address.durable {
            return refused("that of a durable file is the machine's");
        }
        let Some(bell) = self.bell().filter(|bell| bell.is_shared) else {
            return refused("the folder allows no side file");
        };
        bell.move_clock(by);
        // Whoever looks after this call finds nothing scheduled that is due.
        self.write(Commit::Relaxed, |transaction| messages::promote(transaction, self.now_s()))?;
        bell.ring(Word::Queues, ALL);
        bell.ring(Word::Results, ALL);
        Ok(())
    }

    // -- the file

    /// What SQLite finds wrong with the file; empty if nothing.
    pub fn problems(&self) -> Result<Vec<String>> {
        self.read(|connection| maintenance::problems(connection, true))
    }

    /// Gives unused space back to the file system. Everybody else waits meanwhile.
    pub fn vacuum(&self) -> Result<()> {
        self.with(&self.local().writer, Database::vacuum)
    }

    /// Deletes what is past its time; workers do so by themselves.
    pub fn tidy(&self) -> Result<bool> {
        self.write(Commit::Relaxed, |transaction| maintenance::tidy(transaction, self.now_s()))
    }

    pub(crate) fn address(&self) -> &SqliteAddress {
        &self.address
    }
}
