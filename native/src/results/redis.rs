//! Results in Redis, stored as `celery.backends.redis` does: SET with expiry, PUBLISH on the key's own channel.
//!
//! Queued writes leave as batches, one script call each (`scripts/store.lua`), so that a value crosses once for
//! both commands, a stored SUCCESS stays without a round trip to look, and Redis answers once per batch. A batch
//! goes out at once when nothing is in flight; while something is, writes gather until the answer comes, a few
//! hundred microseconds pass or the batch is worth sending. What the script cannot judge comes back and is
//! judged here ([`status`]); order across such detours is [`backlog`]'s business.
//!
//! Refusals that pass (out of memory, loading, read-only) and lost connections are retried by the configured
//! policy; when it is exhausted everything queued fails, and the next write begins anew. A batch refused for
//! good is sent again write by write, to fail only those that cannot be stored.

mod backlog;
mod status;

use std::mem;

use mio::{Registry, Token};

use self::backlog::{Backlog, Pending};
use super::attempts::Attempts;
use super::{ResultStore, ResultWrite, StoreEvent};
use crate::broker::TokenRange;
use crate::broker::redis::connection::{Event, RedisConnection, to_ns};
use crate::broker::redis::server_error::{classify, is_unknown_script, needs_reconnect};
use crate::clock::MonotonicNs;
use crate::config::RedisResultConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::wire::resp::{CommandWriter, Frame};

const SCRIPT: &str = include_str!("redis/scripts/store.lua");
/// A script blocks the server while it runs: at about 3 us a write this is under a millisecond.
const MAX_BATCH_WRITES: usize = 256;
const MAX_BATCH_BYTES: usize = 1 << 20;
/// Redis's longest string, and what `celery.backends.redis` refuses beyond.
const MAX_VALUE_BYTES: usize = 512 << 20;
const MAX_BATCHES_IN_FLIGHT: usize = 8;
/// With an answer outstanding, a batch of this size goes out at once.
const WORTH_SENDING_WRITES: usize = 64;
/// With an answer outstanding, a smaller batch goes out at the first chance after this time.
const GATHER_NS: u64 = 300_000;

/// What an answer belongs to.
#[derive(Debug)]
enum Request {
    LoadScript,
    Store(Vec<Pending>),
}

/// The result store. See the module's text.
#[derive(Debug)]
pub struct RedisResultStore {
    connection: RedisConnection<Request>,
    token: Token,
    /// Expiry as the script takes it.
    expiry: String,
    backlog: Backlog,
    /// The script's digest once this server has it.
    digest: Option<Vec<u8>>,
    connecting: Attempts,
    refused: Attempts,
    was_connected: bool,
    is_started: bool,
    /// When to open the connection again; `None` while it is open or nothing asks for it.
    open_at_ns: Option<MonotonicNs>,
    /// Nothing is sent before this.
    send_at_ns: MonotonicNs,
    last_sent_ns: MonotonicNs,
    incoming: Vec<Event<Request>>,
    /// The command being written, kept for its memory.
    encoded: Vec<u8>,
    /// Tokens of writes that no server would take.
    oversized: Vec<u64>,
    /// Why this server is the wrong one, found while its answers were looked at.
    wrong_server: Option<Error>,
}

impl RedisResultStore {
    /// A store that is not connected yet.
    #[must_use]
    pub fn new(config: RedisResultConfig) -> Self {
        Self {
            connection: RedisConnection::new(config.address, "results"),
            token: Token(usize::MAX),
            expiry: config.expires_s.filter(|expires_s| *expires_s > 0).map_or_else(String::new, |s| s.to_string()),
            backlog: Backlog::default(),
            digest: None,
            connecting: Attempts::new(config.retry),
            refused: Attempts::new(config.retry),
            was_connected: false,
            is_started: false,
            open_at_ns: None,
            send_at_ns: 0,
            last_sent_ns: 0,
            incoming: Vec::new(),
            encoded: Vec::new(),
            oversized: Vec::new(),
            wrong_server: None,
        }
    }

    fn on_event(&mut self, event: Event<Request>, now_ns: MonotonicNs, events: &mut Vec<StoreEvent>) {
        match event {
            Event::Opened(_) => self.on_opened(now_ns, events),
            Event::Reply { request: Request::LoadScript, reply } => {
                // A refusal shows again at the first batch, which brings the whole script.
                self.digest = reply.as_bytes().map(<[u8]>::to_vec);
            }
            Event::Reply { request: Request::Store(batch), reply } => self.on_answer(batch, reply, now_ns, events),
            Event::Push(_) => {}
            Event::Closed { error, unanswered } => self.on_closed(error, unanswered, now_ns, events),
        }
    }

    fn on_opened(&mut self, now_ns: MonotonicNs, events: &mut Vec<StoreEvent>) {
        self.connecting.reset();
        self.was_connected = true;
        self.open_at_ns = None;
        self.send_at_ns = now_ns;
        self.load_script(now_ns);
        events.push(StoreEvent::Connected);
    }

    /// Has the server keep the script; until it answers, batches bring the script along.
    fn load_script(&mut self, now_ns: MonotonicNs) {
        self.digest = None;
        if !self.connection.is_open() {
            // Events are looked at after the driving that made them; the next opening loads the script.
            return;
        }
        self.connection.send(Request::LoadScript, now_ns, |out| {
            CommandWriter::new(out, 3).arg("SCRIPT").arg("LOAD").arg(SCRIPT);
        });
    }

    fn on_closed(&mut self, error: Error, unanswered: Vec<Request>, now_ns: MonotonicNs, events: &mut Vec<StoreEvent>) {
        for request in unanswered {
            if let Request::Store(batch) = request {
                self.backlog.unanswered(batch);
            }
        }
        self.backlog.release();
        match self.connecting.fail(!self.was_connected) {
            Some(retry_in_s) => {
                self.open_at_ns = Some(now_ns + to_ns(retry_in_s));
                events.push(StoreEvent::Disconnected { error, retry_in_s });
            }
            None => self.give_up(&error, events),
        }
    }

    /// Fails what is queued; the next write asks for a connection again.
    fn give_up(&mut self, error: &Error, events: &mut Vec<StoreEvent>) {
        self.open_at_ns = None;
        if self.backlog.len() == 0 {
            events.push(StoreEvent::GaveUp { error: error.clone() });
        }
        for pending in self.backlog.drain() {
            events.push(StoreEvent::Failed { token: pending.write.token, error: error.clone() });
        }
    }

    fn on_answer(&mut self, batch: Vec<Pending>, reply: Frame, now_ns: MonotonicNs, events: &mut Vec<StoreEvent>) {
        self.backlog.answered(&batch);
        match reply {
            Frame::Integer(_) => {
                self.refused.reset();
                self.on_stored(&batch, events);
            }
            Frame::Error(line) => self.on_refused(batch, &line, now_ns, events),
            other => match judge(batch, other) {
                Ok(judged) => {
                    self.on_stored(&judged.stored, events);
                    self.backlog.hold(judged.again);
                }
                Err((batch, error)) => fail_all(&batch, &error, events),
            },
        }
    }

    fn on_stored(&mut self, stored: &[Pending], events: &mut Vec<StoreEvent>) {
        for token in self.backlog.overtake(stored) {
            events.push(StoreEvent::Stored { token });
        }
        events.extend(stored.iter().map(|pending| StoreEvent::Stored { token: pending.write.token }));
    }

    fn on_refused(&mut self, mut batch: Vec<Pending>, line: &str, now_ns: MonotonicNs, events: &mut Vec<StoreEvent>) {
        if is_unknown_script(line) {
            // Batches in flight meet the same answer; one of them asks for the script.
            if self.digest.is_some() {
                self.load_script(now_ns);
            }
            self.backlog.hold(batch);
            return;
        }
        let error = classify(line).context("storing results");
        if error.is_retryable() {
            if needs_reconnect(line) {
                self.wrong_server = Some(error.clone());
            }
            // Batches refused together count once.
            if self.send_at_ns <= now_ns {
                let is_news = !self.refused.is_failing();
                match self.refused.fail(false) {
                    Some(retry_in_s) => {
                        self.send_at_ns = now_ns + to_ns(retry_in_s);
                        if is_news {
                            events.push(StoreEvent::Refused { error, retry_in_s });
                        }
                    }
                    None => return fail_all(&batch, &error, events),
                }
            }
            self.backlog.hold(batch);
        } else if batch.len() > 1 {
            batch.iter_mut().for_each(|pending| pending.alone = true);
            self.backlog.hold(batch);
        } else {
            fail_all(&batch, &error, events);
        }
    }

    /// After a failover only a new connection leads to a server that takes writes.
    fn leave_wrong_server(&mut self, registry: &Registry, now_ns: MonotonicNs, events: &mut Vec<StoreEvent>) {
        let Some(error) = self.wrong_server.take().filter(|_| self.connection.is_open()) else { return };
        for request in self.connection.close(registry) {
            if let Request::Store(batch) = request {
                self.backlog.unanswered(batch);
            }
        }
        self.backlog.release();
        let retry_in_s = self.send_at_ns.saturating_sub(now_ns) as f64 / 1e9;
        self.open_at_ns = Some(self.send_at_ns);
        events.push(StoreEvent::Disconnected { error, retry_in_s });
    }

    fn open_if_due(&mut self, registry: &Registry, now_ns: MonotonicNs) -> Result<()> {
        if !self.is_started || !self.connection.is_closed() {
            return Ok(());
        }
        let due = match self.open_at_ns {
            Some(open_at_ns) => open_at_ns <= now_ns,
            None => self.backlog.len() > 0,
        };
        if due {
            self.open_at_ns = None;
            self.connection.open(registry, self.token, now_ns)?;
        }
        Ok(())
    }

    fn send(&mut self, now_ns: MonotonicNs) {
        if !self.connection.is_open() {
            return;
        }
        self.backlog.release();
        while now_ns >= self.send_at_ns && self.is_worth_sending(now_ns) {
            let Some(batch) = self.backlog.take(MAX_BATCH_WRITES, MAX_BATCH_BYTES) else { break };
            self.last_sent_ns = now_ns;
            let (digest, expiry) = (self.digest.as_deref(), self.expiry.as_str());
            self.encoded.clear();
            encode(&mut self.encoded, digest, expiry, &batch);
            let encoded = &self.encoded;
            self.connection.send(Request::Store(batch), now_ns, |out| out.extend_from_slice(encoded));
        }
        self.connection.flush();
    }

    fn is_worth_sending(&self, now_ns: MonotonicNs) -> bool {
        match self.backlog.batches_in_flight() {
            0 => true,
            in_flight if in_flight >= MAX_BATCHES_IN_FLIGHT => false,
            _ => self.backlog.waiting() >= WORTH_SENDING_WRITES || now_ns >= self.last_sent_ns + GATHER_NS,
        }
    }
}

/// Encodes one call of the script.
fn encode(out: &mut Vec<u8>, digest: Option<&[u8]>, expiry: &str, batch: &[Pending]) {
    let (command, script): (&[u8], &[u8]) = match digest {
        Some(digest) => (b"EVALSHA", digest),
        None => (b"EVAL", SCRIPT.as_bytes()),
    };
    let mut writer = CommandWriter::new(out, 5 + 2 * batch.len());
    writer.arg(command).arg(script).arg_u64(batch.len() as u64);
    for pending in batch {
        writer.arg(&pending.write.key);
    }
    writer.arg(expiry);
    if batch.iter().all(Pending::is_protected) {
        writer.arg("");
    } else {
        let modes: Vec<u8> = batch.iter().map(|pending| if pending.is_protected() { b'p' } else { b'f' }).collect();
        writer.arg(modes);
    }
    for pending in batch {
        writer.arg(&pending.write.value);
    }
}

/// A batch whose answer holds values that the script could not judge.
struct Judged {
    stored: Vec<Pending>,
    again: Vec<Pending>,
}

/// Sorts a batch by the script's list of (index from one, stored value).
fn judge(batch: Vec<Pending>, reply: Frame) -> std::result::Result<Judged, (Vec<Pending>, Error)> {
    let unexpected = reply.unexpected("0 or a list of stored values");
    let Ok(items) = reply.into_array() else { return Err((batch, unexpected)) };
    let mut replaceable = vec![false; batch.len()];
    for pair in items.chunks(2) {
        let index = pair[0].as_integer().and_then(|index| usize::try_from(index - 1).ok());
        let (Some(slot), Some(value)) =
            (index.and_then(|index| replaceable.get_mut(index)), pair.get(1).and_then(Frame::as_bytes))
        else {
            return Err((batch, unexpected));
        };
        *slot = !status::is_success(value);
    }
    let mut judged = Judged { stored: Vec::new(), again: Vec::new() };
    for (mut pending, replaceable) in batch.into_iter().zip(replaceable) {
        if replaceable {
            pending.judged = true;
            judged.again.push(pending);
        } else {
            judged.stored.push(pending);
        }
    }
    Ok(judged)
}

fn fail_all(batch: &[Pending], error: &Error, events: &mut Vec<StoreEvent>) {
    events.extend(batch.iter().map(|pending| StoreEvent::Failed { token: pending.write.token, error: error.clone() }));
}

impl ResultStore for RedisResultStore {
    fn start(&mut self, registry: &Registry, tokens: TokenRange, now_ns: MonotonicNs) -> Result<()> {
        if tokens.count == 0 {
            return Err(Error::new(ErrorKind::Internal, "the result store needs a poller token"));
        }
        self.token = tokens.at(0);
        self.is_started = true;
        self.open_at_ns = Some(now_ns);
        self.open_if_due(registry, now_ns)
    }

    fn put(&mut self, write: ResultWrite) {
        if write.value.len() > MAX_VALUE_BYTES {
            self.oversized.push(write.token);
        } else {
            self.backlog.put(write);
        }
    }

    fn drive(
        &mut self,
        registry: &Registry,
        ready: &[Token],
        now_ns: MonotonicNs,
        events: &mut Vec<StoreEvent>,
    ) -> Result<()> {
        events.extend(self.oversized.drain(..).map(|token| {
            let error = Error::new(ErrorKind::TooLarge, "value too large for Redis: more than 512 MiB");
            StoreEvent::Failed { token, error }
        }));
        self.open_if_due(registry, now_ns)?;
        let mut incoming = mem::take(&mut self.incoming);
        self.connection.drive(registry, ready.contains(&self.token), now_ns, &mut incoming);
        for event in incoming.drain(..) {
            self.on_event(event, now_ns, events);
        }
        self.incoming = incoming;
        self.leave_wrong_server(registry, now_ns, events);
        self.send(now_ns);
        Ok(())
    }

    fn deadline_ns(&self) -> Option<MonotonicNs> {
        let connection = self.connection.deadline_ns();
        if !self.oversized.is_empty() {
            return Some(0);
        }
        let own = if self.connection.is_open() {
            (self.backlog.waiting() > 0 && self.backlog.batches_in_flight() == 0).then_some(self.send_at_ns)
        } else if self.connection.is_closed() {
            self.open_at_ns.or_else(|| (self.is_started && self.backlog.len() > 0).then_some(0))
        } else {
            None
        };
        connection.into_iter().chain(own).min()
    }

    fn pending(&self) -> usize {
        self.backlog.len() + self.oversized.len()
    }

    fn stop(&mut self, registry: &Registry) {
        self.is_started = false;
        self.open_at_ns = None;
        self.connection.flush();
        for request in self.connection.close(registry) {
            if let Request::Store(batch) = request {
                self.backlog.unanswered(batch);
            }
        }
        self.backlog.release();
    }
}
