//! What the thread of a session does, transaction by transaction.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::bell::{Bell, Word, bit_of};
use super::database::{Commit, Database};
use super::liveness::Liveness;
use super::messages::{self, Fetched, Source};
use super::results::{self, NewResult};
use super::session::{Attempts, Consumer, News, Session, Taken, Work};
use super::{consuming, maintenance, nodes};
use crate::broker::{BrokerEvent, Incoming, Settlement, Undecodable};
use crate::error::{Error, ErrorKind, Result};
use crate::message::parse_envelope;
use crate::results::StoreEvent;

/// How often a node looks for itself, whatever the bell says.
const LOOK_S: f64 = 1.0;
/// The same where nobody can ring.
const POLL_S: f64 = 0.010;
/// How often what is past its time is deleted.
const TIDY_S: f64 = 10.0;
/// Longest sleep.
const SLEEP_MAX_S: f64 = 30.0;
/// Files up to this size are checked when a node starts; larger ones by `pyworker sqlite check`.
const CHECK_MAX_BYTES: u64 = 256 << 20;

/// The thread's own state.
#[derive(Debug)]
pub(super) struct Serving {
    session: Arc<Session>,
    attempts: Attempts,
    bell: Arc<Bell>,
    liveness: Option<Liveness>,
    boot: String,
    /// Our number in the file; zero before the first signing.
    node: i64,
    sources: Vec<Source>,
    /// The state of the session's queues that the file knows of.
    announced: u64,
    inode: u64,
    is_checked: bool,
    /// There may be messages.
    looks: bool,
    seen: u32,
    version: i64,
    next_due_s: Option<f64>,
    next_tidy_s: f64,
}

/// What one transaction did.
#[derive(Debug, Default)]
struct Done {
    confirmed: usize,
    lost: usize,
    requeued: usize,
    buried: bool,
    reclaimed: u64,
    promoted: usize,
    fetched: Vec<Fetched>,
    more: bool,
    recalled: Vec<Fetched>,
}

impl Serving {
    pub(super) fn new(session: Arc<Session>) -> Self {
        let attempts = Attempts::new(session.retry);
        let bell = session.bell();
        Self {
            session,
            attempts,
            bell,
            liveness: None,
            boot: nodes::boot_id(),
            node: 0,
            sources: Vec::new(),
            announced: 0,
            inode: 0,
            is_checked: false,
            looks: true,
            seen: 0,
            version: 0,
            next_due_s: None,
            next_tidy_s: 0.0,
        }
    }

    pub(super) fn run(mut self) {
        loop {
            let error = match self.serve() {
                Ok(()) => return,
                Err(error) => error,
            };
            let retry_in_s = self.attempts.fail(&error);
            let lost = BrokerEvent::Disconnected { error: error.clone(), retry_in_s };
            let stored = retry_in_s
                .map(|retry_in_s| StoreEvent::Disconnected { error: error.clone(), retry_in_s })
                .into_iter()
                .collect();
            self.session.tell(vec![News::Event(lost)], stored, &[], 0);
            if retry_in_s.is_none() {
                self.session.fail_writes(&error);
            }
            if self.session.pause(retry_in_s) {
                return;
            }
        }
    }

    /// Opens the file and works until told to stop.
    fn serve(&mut self) -> Result<()> {
        let mut database = Database::open(&self.session.address)?;
        self.open_side_file(&mut database)?;
        let mut news = Vec::new();
        if let Some(consumer) = self.session.consumer.clone() {
            self.sign_on(&mut database, &consumer, &mut news)?;
        }
        news.push(News::Event(BrokerEvent::Connected));
        if !self.bell.is_shared {
            let text = "the SQLite file's folder allows no side file: other processes are found by polling, \
                        the idle and latency figures do not hold";
            news.push(News::Event(BrokerEvent::Degraded { text: text.into() }));
        }
        self.session.tell(news, vec![StoreEvent::Connected], &[], 0);
        self.looks = true;
        loop {
            let seen = self.bell.read(Word::Queues);
            self.looks |= std::mem::replace(&mut self.seen, seen) != seen || self.is_due();
            self.announce(&mut database)?;
            match self.session.take(self.looks) {
                Taken::Abandoned => return Ok(()),
                Taken::Stopping => return self.sign_off(&mut database),
                Taken::Work(work) => self.work(&mut database, work)?,
                Taken::Nothing { knows_demand } => self.rest(&mut database, seen, knows_demand)?,
            }
        }
    }

    fn open_side_file(&mut self, database: &mut Database) -> Result<()> {
        let path = &self.session.address.path;
        let metadata = std::fs::metadata(path)?;
        if !std::mem::replace(&mut self.is_checked, true) && metadata.len() <= CHECK_MAX_BYTES {
            let problems = database.read(|connection| maintenance::problems(connection, false))?;
            if let Some(first) = problems.first() {
                let text = format!("sqlite: {}: the file is damaged: {first}", path.display());
                return Err(Error::new(ErrorKind::ServerRefused, text));
            }
        }
        if self.inode != metadata.ino() {
            self.bell = Arc::new(Bell::open(path)?);
            self.session.use_bell(Arc::clone(&self.bell));
            self.liveness = Liveness::open(path)?;
            self.inode = metadata.ino();
        }
        Ok(())
    }

    /// Signs on, or again if others have not declared us dead, and takes over what the dead held.
    fn sign_on(&mut self, database: &mut Database, consumer: &Consumer, news: &mut Vec<News>) -> Result<()> {
        let now_ns = self.session.clock.monotonic_ns();
        let (before, boot, liveness) = (self.node, &self.boot, self.liveness.as_ref());
        // In this order: a queue that is added meanwhile is announced the next time.
        let ((active, version), names) = (self.session.active_queues(), self.session.queue_names());
        let now_s = self.now_s();
        let (node, sources, reclaimed) = database.write(Commit::Relaxed, |transaction| {
            let mut node = before;
            if node == 0 || !nodes::renew(transaction, node, now_ns)? {
                node = nodes::sign_on(transaction, &consumer.owner, boot, now_ns, consumer.lease_ns)?;
                // Before anybody can see the number.
                liveness.map(|liveness| liveness.hold(node));
            }
            let reclaimed = nodes::reclaim(transaction, node, boot, (now_ns, now_s), liveness)?;
            Ok((node, announce(transaction, node, &names, &active, now_s)?, reclaimed))
        })?;
        self.attempts.reset();
        (self.node, self.sources, self.announced) = (node, sources, version);
        if before != 0 && before != node {
            news.push(News::Buried);
        }
        news.push(News::Reclaimed(reclaimed));
        news.push(News::Event(BrokerEvent::LeasesRenewed { at_ns: now_ns }));
        if reclaimed > 0 {
            self.session.ring_queues();
        }
        Ok(())
    }

    /// Tells the file when the session's queues have changed.
    fn announce(&mut self, database: &mut Database) -> Result<()> {
        if self.node == 0 || self.session.queues_version() == self.announced {
            return Ok(());
        }
        // In this order: a queue that is added meanwhile is announced the next time.
        let ((active, version), names) = (self.session.active_queues(), self.session.queue_names());
        let (node, now_s) = (self.node, self.now_s());
        self.sources =
            database.write(Commit::Relaxed, |transaction| announce(transaction, node, &names, &active, now_s))?;
        self.announced = version;
        self.looks = true;
        Ok(())
    }

    fn sign_off(&mut self, database: &mut Database) -> Result<()> {
        if self.node != 0 {
            let (node, now_s) = (self.node, self.now_s());
            // What cannot be written now is found by others: our lock is free.
            let _ = database.write(Commit::Relaxed, |transaction| nodes::sign_off(transaction, node, now_s));
        }
        Ok(())
    }

    fn now_s(&self) -> f64 {
        self.session.clock.wall_s()
    }

    fn is_due(&self) -> bool {
        self.next_due_s.is_some_and(|due_s| due_s <= self.now_s())
    }

    /// Sleeps until rung, or until something is due.
    fn rest(&mut self, database: &mut Database, seen: u32, knows_demand: bool) -> Result<()> {
        let now_s = self.now_s();
        if now_s >= self.next_tidy_s {
            let more = database.write(Commit::Relaxed, |transaction| maintenance::tidy(transaction, now_s))?;
            self.next_tidy_s = now_s + if more { 0.0 } else { TIDY_S };
            // What the engine asked for meanwhile comes first.
            return Ok(());
        }
        let mut sleep_s = (self.next_tidy_s - now_s).clamp(0.0, SLEEP_MAX_S);
        if knows_demand {
            sleep_s = sleep_s.min(if self.bell.is_shared { LOOK_S } else { POLL_S });
            if let Some(due_s) = self.next_due_s {
                sleep_s = sleep_s.min((due_s - now_s).max(0.0));
            }
        }
        self.bell.wait(Word::Queues, seen, self.session.bits(), Duration::from_secs_f64(sleep_s));
        if knows_demand && self.bell.read(Word::Queues) == seen {
            // The net: somebody may have committed without ringing.
            let version = database.version()?;
            self.looks |= std::mem::replace(&mut self.version, version) != version;
        }
        Ok(())
    }

    /// Does what was taken in one transaction; puts it back if that fails.
    fn work(&mut self, database: &mut Database, work: Work) -> Result<()> {
        let done = match self.attempt(database, &work) {
            Ok(done) => done,
            Err(error) => {
                self.session.put_back(work);
                return Err(error);
            }
        };
        self.attempts.reset();
        let buried = done.buried;
        self.tell(work, done);
        if buried && let Some(consumer) = self.session.consumer.clone() {
            // We slept too long. A new number, and everything held under the old one is gone.
            let mut news = Vec::new();
            self.sign_on(database, &consumer, &mut news)?;
            self.session.tell(news, Vec::new(), &[], 0);
        }
        Ok(())
    }

    fn attempt(&mut self, database: &mut Database, work: &Work) -> Result<Done> {
        if work.renew_ns.is_some() {
            self.check_file(database)?;
        }
        if work.is_only_fetch() && !self.is_due() && !self.probe(database)? {
            // Nothing there: no need to keep others from writing.
            return Ok(Done::default());
        }
        self.transact(database, work)
    }

    /// Whether there is something to fetch; learns when the next message is due.
    fn probe(&mut self, database: &mut Database) -> Result<bool> {
        let sources = &self.sources;
        let (due_s, any) = database.read(|connection| {
            let mut head = connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM ready WHERE queue = ?1)")?;
            let mut any = false;
            for source in sources {
                any = any || head.query_row([source.id], |row| row.get(0))?;
            }
            Ok((messages::next_due_s(connection)?, any))
        })?;
        self.next_due_s = due_s;
        Ok(any || self.is_due())
    }

    /// A file that was deleted or replaced is no longer the one that others see.
    fn check_file(&self, database: &Database) -> Result<()> {
        if database.is_current() {
            return Ok(());
        }
        let path = self.session.address.path.display();
        Err(Error::new(ErrorKind::Connection, format!("sqlite: {path}: the file was deleted or replaced")))
    }

    fn transact(&mut self, database: &mut Database, work: &Work) -> Result<Done> {
        let now_s = self.now_s();
        let now_ns = self.session.clock.monotonic_ns();
        let is_relaxed = work.settlements.is_empty() && work.writes.is_empty();
        let commit = if is_relaxed { Commit::Relaxed } else { Commit::Durable };
        let expires_s = *self.session.expires_s.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let expires_s = expires_s.map(|seconds| now_s as i64 + seconds as i64);
        let cycle: Vec<Source> =
            work.cycle.iter().filter_map(|index| self.sources.get(usize::from(*index)).copied()).collect();
        let fair = self.session.consumer.as_ref().is_some_and(|consumer| consumer.fair);
        let (node, boot, liveness, due) = (self.node, &self.boot, self.liveness.as_ref(), self.is_due());
        let sources = &self.sources;
        let (done, next_due_s) = database.write(commit, |transaction| {
            let mut done = Done::default();
            if work.renew_ns.is_some() {
                done.buried = !nodes::renew(transaction, node, now_ns)?;
                done.reclaimed = nodes::reclaim(transaction, node, boot, (now_ns, now_s), liveness)?;
            }
            for (id, how) in &work.settlements {
                if messages::settle(transaction, *id, *how, node)? {
                    done.confirmed += 1;
                    done.requeued += usize::from(matches!(how, Settlement::Requeue | Settlement::Release));
                } else {
                    done.lost += 1;
                }
            }
            for write in &work.writes {
                results::store(
                    transaction,
                    NewResult {
                        key: &write.key,
                        value: &write.value,
                        is_success: write.is_success,
                        protected: write.protected,
                        expires_s,
                        now_s: now_s as i64,
                    },
                )?;
            }
            if due {
                done.promoted = messages::promote(transaction, now_s)?;
            }
            if work.want > 0 && !done.buried {
                (done.fetched, done.more) = messages::fetch(transaction, &cycle, fair, work.want as usize, node)?;
            }
            if !work.recalls.is_empty() {
                done.recalled = messages::recall(transaction, sources, &work.recalls, node)?;
            }
            Ok((done, messages::next_due_s(transaction)?))
        })?;
        self.next_due_s = next_due_s;
        Ok(done)
    }

    fn tell(&mut self, work: Work, done: Done) {
        let mut news = Vec::new();
        if !work.settlements.is_empty() {
            news.push(News::Settled { confirmed: done.confirmed, lost: done.lost, requeued: done.requeued });
        }
        if done.reclaimed > 0 {
            news.push(News::Reclaimed(done.reclaimed));
        }
        if let Some(asked_ns) = work.renew_ns
            && !done.buried
        {
            news.push(News::Event(BrokerEvent::LeasesRenewed { at_ns: asked_ns }));
        }
        if work.want > 0 {
            self.looks = done.more;
        }
        let becomes_ready = done.requeued > 0 || done.reclaimed > 0 || done.promoted > 0;
        let used = self.used(&done.fetched);
        let fetched = done.fetched.len() as u32;
        for batch in [self.incoming(done.recalled), self.incoming(done.fetched)] {
            if !batch.is_empty() {
                news.push(News::Event(BrokerEvent::Delivered(batch)));
            }
        }
        let bits = work.writes.iter().fold(0, |bits, write| bits | bit_of(&write.key));
        let stored = work.writes.iter().map(|write| StoreEvent::Stored { token: write.token }).collect();
        if bits != 0 {
            self.bell.ring(Word::Results, bits);
        }
        self.session.tell(news, stored, &used, fetched);
        if becomes_ready {
            self.looks = true;
            self.session.ring_queues();
        }
    }

    fn used(&self, fetched: &[Fetched]) -> Vec<u16> {
        let fair = self.session.consumer.as_ref().is_some_and(|consumer| consumer.fair);
        let mut used = Vec::new();
        if fair && self.sources.len() > 1 {
            let mut seen = vec![false; self.sources.len()];
            for message in fetched {
                if !std::mem::replace(&mut seen[usize::from(message.queue)], true) {
                    used.push(message.queue);
                }
            }
        }
        used
    }

    fn incoming(&self, fetched: Vec<Fetched>) -> Vec<Incoming> {
        let most = self.session.consumer.as_ref().map_or(u64::MAX, |consumer| consumer.max_message_bytes);
        fetched
            .into_iter()
            .map(|message| Incoming {
                tag: message.id,
                queue: message.queue,
                deliveries: message.deliveries,
                content: parse_envelope(message.body, most).map_err(|(error, raw)| Undecodable { error, raw }),
            })
            .collect()
    }
}

/// The file's numbers of queues. Says in the file which of them the node consumes; these are made if they are new.
fn announce(
    transaction: &Connection,
    node: i64,
    names: &[String],
    active: &[u16],
    now_s: f64,
) -> rusqlite::Result<Vec<Source>> {
    consuming::end_all(transaction, node, now_s)?;
    let mut sources = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let index = index as u16;
        let id = if active.contains(&index) {
            let id = messages::queue_id(transaction, name)?;
            consuming::begin(transaction, id, node, None)?;
            id
        } else {
            // No queue has the number zero.
            messages::known_queue(transaction, name)?.unwrap_or(0)
        };
        sources.push(Source { index, id });
    }
    Ok(sources)
}
