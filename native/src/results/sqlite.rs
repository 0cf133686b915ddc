//! Results in a SQLite file, written by the session's thread ([`crate::sqlite::session`]).
//!
//! With a broker in the same file both share the thread, so that a result and the acknowledgement of its task become
//! durable together.

use std::sync::{Arc, PoisonError};

use mio::unix::pipe;
use mio::{Registry, Token};

use super::{ResultStore, ResultWrite, StoreEvent};
use crate::broker::TokenRange;
use crate::broker::sqlite::drain;
use crate::clock::{Clock, MonotonicNs};
use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::SqliteResultConfig;
use crate::sqlite::session::Session;

/// SQLite's own limit is 1 GB for a row.
const MAX_VALUE_BYTES: usize = 512 << 20;

/// The result store. See the module's text.
#[derive(Debug)]
pub struct SqliteResultStore {
    session: Arc<Session>,
    token: Token,
    pipe: Option<pipe::Receiver>,
    writes: Vec<ResultWrite>,
    /// Tokens of writes that no file would take.
    oversized: Vec<u64>,
    /// Writes without an end yet.
    pending: usize,
}

impl SqliteResultStore {
    /// A store with a thread of its own.
    ///
    /// # Errors
    ///
    /// `Resource` if there is no memory to be had.
    pub fn new(config: SqliteResultConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        let session = Session::new(config.address, None, config.retry, clock)?;
        Ok(Self::on(session, config.expires_s))
    }

    /// A store in the file of a broker.
    pub(crate) fn on(session: Arc<Session>, expires_s: Option<u64>) -> Self {
        *session.expires_s.lock().unwrap_or_else(PoisonError::into_inner) = expires_s.filter(|seconds| *seconds > 0);
        Self { session, token: Token(usize::MAX), pipe: None, writes: Vec::new(), oversized: Vec::new(), pending: 0 }
    }
}

impl ResultStore for SqliteResultStore {
    fn start(&mut self, registry: &Registry, tokens: TokenRange, _now_ns: MonotonicNs) -> Result<()> {
        self.token = tokens.at(0);
        self.pipe = Some(self.session.join(registry, self.token, false)?);
        Ok(())
    }

    fn put(&mut self, write: ResultWrite) {
        self.pending += 1;
        if write.value.len() > MAX_VALUE_BYTES {
            self.oversized.push(write.token);
        } else {
            self.writes.push(write);
        }
    }

    fn drive(
        &mut self,
        _registry: &Registry,
        ready: &[Token],
        _now_ns: MonotonicNs,
        events: &mut Vec<StoreEvent>,
    ) -> Result<()> {
        if ready.contains(&self.token)
            && let Some(pipe) = &mut self.pipe
        {
            drain(pipe);
        }
        let before = events.len();
        events.extend(self.oversized.drain(..).map(|token| {
            let error = Error::new(ErrorKind::TooLarge, "value too large for a SQLite file: more than 512 MiB");
            StoreEvent::Failed { token, error }
        }));
        events.extend(self.session.exchange_results(&mut self.writes));
        let ended = events[before..]
            .iter()
            .filter(|event| matches!(event, StoreEvent::Stored { .. } | StoreEvent::Failed { .. }))
            .count();
        self.pending = self.pending.saturating_sub(ended);
        Ok(())
    }

    fn deadline_ns(&self) -> Option<MonotonicNs> {
        (!self.writes.is_empty() || !self.oversized.is_empty()).then_some(0)
    }

    fn pending(&self) -> usize {
        self.pending
    }

    fn stop(&mut self, registry: &Registry) {
        if let Some(mut pipe) = self.pipe.take() {
            self.session.exchange_results(&mut self.writes);
            let _ = registry.deregister(&mut pipe);
            self.session.leave(false);
        }
    }
}

impl Drop for SqliteResultStore {
    fn drop(&mut self) {
        if self.pipe.take().is_some() {
            self.session.leave(true);
        }
    }
}
