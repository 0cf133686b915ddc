//! The writes that the server has not confirmed, in order, and the rule that keeps the order across refusals.
//!
//! ```text
//!  put --> queue --take--> in flight --confirm--> done
//!            ^                 |
//!            '---- held <------'  refused for now, not judged by the script, or the connection broke
//! ```
//!
//! Batches are pipelined, so a later batch may succeed after an earlier one was refused. While anything is
//! held, nothing is taken; what is in flight is waited for; then the held writes go back to the front of the
//! queue. A held write that a later batch has overtaken on its key is done with: it would only bring back an
//! older state. Unless it says SUCCESS, which is final and therefore right whenever it comes.

use std::collections::{HashSet, VecDeque};

use crate::results::ResultWrite;

/// A write and what is known about how it must be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) write: ResultWrite,
    /// The stored value was looked at and may be replaced.
    pub(super) judged: bool,
    /// Sent alone, because a batch with it was refused for good.
    pub(super) alone: bool,
}

impl Pending {
    fn new(write: ResultWrite) -> Self {
        Self { write, judged: false, alone: false }
    }

    /// Whether the script must look at a stored value.
    pub(super) fn is_protected(&self) -> bool {
        self.write.protected && !self.judged
    }

    fn size_bytes(&self) -> usize {
        self.write.key.len() + self.write.value.len()
    }
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    queue: VecDeque<Pending>,
    held: Vec<Pending>,
    batches_in_flight: usize,
    writes_in_flight: usize,
}

impl Backlog {
    pub(super) fn put(&mut self, write: ResultWrite) {
        self.queue.push_back(Pending::new(write));
    }

    /// A batch's answer will not come; it may have been carried out. It is sent again before anything else,
    /// and judged anew, since time has passed.
    pub(super) fn unanswered(&mut self, mut batch: Vec<Pending>) {
        self.answered(&batch);
        batch.iter_mut().for_each(|pending| pending.judged = false);
        self.hold(batch);
    }

    /// Writes not confirmed.
    pub(super) fn len(&self) -> usize {
        self.queue.len() + self.held.len() + self.writes_in_flight
    }

    /// Writes that wait to be taken.
    pub(super) fn waiting(&self) -> usize {
        if self.held.is_empty() { self.queue.len() } else { 0 }
    }

    pub(super) fn batches_in_flight(&self) -> usize {
        self.batches_in_flight
    }

    /// The next batch in order, or nothing while something is held or nothing waits.
    pub(super) fn take(&mut self, max_writes: usize, max_bytes: usize) -> Option<Vec<Pending>> {
        if !self.held.is_empty() || self.queue.is_empty() {
            return None;
        }
        let mut batch = Vec::with_capacity(max_writes.min(self.queue.len()));
        let mut size_bytes = 0;
        while let Some(next) = self.queue.front() {
            size_bytes += next.size_bytes();
            let full = batch.len() >= max_writes || size_bytes > max_bytes || next.alone;
            if full && !batch.is_empty() {
                break;
            }
            let alone = next.alone;
            batch.extend(self.queue.pop_front());
            if alone {
                break;
            }
        }
        self.batches_in_flight += 1;
        self.writes_in_flight += batch.len();
        Some(batch)
    }

    /// A batch was answered: what became of its writes follows by `done` and `hold`, in order.
    pub(super) fn answered(&mut self, batch: &[Pending]) {
        self.batches_in_flight -= 1;
        self.writes_in_flight -= batch.len();
    }

    /// These writes have to be sent again before anything else.
    pub(super) fn hold(&mut self, writes: impl IntoIterator<Item = Pending>) {
        self.held.extend(writes);
    }

    /// These were stored; returns the tokens of held writes that are overtaken by them.
    pub(super) fn overtake(&mut self, stored: &[Pending]) -> Vec<u64> {
        if self.held.is_empty() {
            return Vec::new();
        }
        let keys: HashSet<&[u8]> = stored.iter().map(|pending| &*pending.write.key).collect();
        let overtaken = |held: &Pending| !held.write.is_success && keys.contains(&*held.write.key);
        let tokens = self.held.iter().filter(|held| overtaken(held)).map(|held| held.write.token).collect();
        self.held.retain(|held| !overtaken(held));
        tokens
    }

    /// Puts held writes back in front once nothing is in flight; true if there were any.
    pub(super) fn release(&mut self) -> bool {
        if self.batches_in_flight > 0 || self.held.is_empty() {
            return false;
        }
        // A judgement is about the value stored before all of these; after a SUCCESS among them it is void.
        let mut succeeded: HashSet<&[u8]> = HashSet::new();
        for pending in &mut self.held {
            if succeeded.contains(&*pending.write.key) {
                pending.judged = false;
            } else if pending.write.is_success {
                succeeded.insert(&pending.write.key);
            }
        }
        for pending in self.held.drain(..).rev() {
            self.queue.push_front(pending);
        }
        true
    }

    /// Takes everything that is not in flight, to fail it.
    pub(super) fn drain(&mut self) -> Vec<Pending> {
        self.held.drain(..).chain(self.queue.drain(..)).collect()
    }
}
