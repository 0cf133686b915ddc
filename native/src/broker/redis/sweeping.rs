//! Bringing back the messages of the dead.
//!
//! * A pyworker that stopped signing the list of nodes: one of the others gets the lock on it, collects the
//!   tags that carry its name from the index, and hands them back, youngest first.
//! * Everybody else: what kombu's workers do for each other, under kombu's mutex, once the lease ran out.
//!   A stock worker's entry names an exchange and a routing key, and its message the priority; both are
//!   read here, never in a script.

use super::entry::foreign_entry;
use super::request::{Request, Restore};
use super::{RedisBroker, connection::to_ns, keys};
use crate::clock::MonotonicNs;
use crate::error::{Error, ErrorKind, Result};
use crate::message::parse_envelope;
use crate::wire::resp::Frame;

/// Most tags in one reclaiming script.
const RECLAIM_BATCH: usize = 200;
/// Most tags that one sweep looks at, and how soon the next one follows when there were so many.
pub(super) const SWEEP_BATCH: usize = 200;
const NEXT_SWEEP_NS: u64 = 50_000_000;
/// Longest time between two sweeps for leases that ran out.
const SWEEP_MAX_S: f64 = 60.0;

/// Where the two sweeps are.
#[derive(Debug)]
pub(super) struct Sweeping {
    interval_ns: u64,
    next_ns: MonotonicNs,
    /// A dead node's tags are being collected or handed back.
    reclaiming: bool,
    /// How many messages had come back when the last sweep that found as many as it may was answered.
    reclaimed_before: Option<u64>,
    /// Tags at the head of the index that nothing can be done about; passed over until the end was seen.
    passed: u64,
    /// The server refused a sweep; said once.
    refused: bool,
}

impl Sweeping {
    pub(super) fn new(visibility_timeout_s: f64) -> Self {
        let interval_ns = to_ns((visibility_timeout_s / 3.0).clamp(1.0, SWEEP_MAX_S));
        Self { interval_ns, next_ns: 0, reclaiming: false, reclaimed_before: None, passed: 0, refused: false }
    }

    pub(super) fn make_due(&mut self) {
        self.next_ns = 0;
    }

    /// What was under way is left to the next one who finds it.
    pub(super) fn abandon(&mut self) {
        self.reclaiming = false;
    }

    /// The server refuses; true if that is news.
    pub(super) fn abandon_refused(&mut self) -> bool {
        self.abandon();
        !std::mem::replace(&mut self.refused, true)
    }

    pub(super) fn deadline_ns(&self) -> Option<MonotonicNs> {
        Some(self.next_ns)
    }
}

impl RedisBroker {
    pub(super) fn sweep(&mut self, now_ns: MonotonicNs) {
        if now_ns < self.sweeping.next_ns {
            return;
        }
        self.sweeping.next_ns = now_ns + self.sweeping.interval_ns;
        let ceiling_s = self.clock.wall_s() - self.config.visibility_timeout_s;
        self.ask(Request::Visible { ceiling_s, passed: self.sweeping.passed }, now_ns);
    }

    pub(super) fn on_heartbeat(&mut self, sent_ns: MonotonicNs, reply: Frame, now_ns: MonotonicNs) -> Result<()> {
        self.times.on_alive(sent_ns);
        self.reloads = 0;
        let mut parts = reply.into_array()?.into_iter();
        let nodes = parts.next().and_then(|part| part.as_integer()).unwrap_or(1);
        self.fetching.nodes = nodes.clamp(1, i64::from(u32::MAX)) as u32;
        if let Some(owner) = parts.next()
            && !self.sweeping.reclaiming
        {
            self.sweeping.reclaiming = true;
            self.ask(Request::Scan { owner: owner.into_bytes()?, cursor: b"0".to_vec(), found: Vec::new() }, now_ns);
        }
        Ok(())
    }

    pub(super) fn on_scanned(
        &mut self,
        owner: Vec<u8>,
        mut found: Vec<Vec<u8>>,
        reply: Frame,
        now_ns: MonotonicNs,
    ) -> Result<()> {
        let mut parts = reply.into_array()?.into_iter();
        let (Some(cursor), Some(pairs)) = (parts.next(), parts.next()) else {
            return Err(Error::new(ErrorKind::Protocol, "ZSCAN answered in an unknown form"));
        };
        let cursor = cursor.into_bytes()?;
        for tag in pairs.into_array()?.into_iter().step_by(2) {
            found.push(tag.into_bytes()?);
        }
        if cursor != b"0" {
            self.ask(Request::Scan { owner, cursor, found }, now_ns);
            return Ok(());
        }
        // Scans may name a tag twice.
        found.sort_unstable_by_key(|tag| std::cmp::Reverse((counter_in(tag), tag.clone())));
        found.dedup();
        let batches = found.len().div_ceil(RECLAIM_BATCH).max(1);
        for nth in 0..batches {
            let end = ((nth + 1) * RECLAIM_BATCH).min(found.len());
            let tags = found[nth * RECLAIM_BATCH..end].to_vec();
            self.ask(Request::Reclaim { owner: owner.clone(), tags, last: nth + 1 == batches }, now_ns);
        }
        Ok(())
    }

    pub(super) fn on_reclaimed(&mut self, last: bool, reply: &Frame) {
        let returned = reply.as_integer().unwrap_or(0);
        self.counters.reclaimed += returned.max(0) as u64;
        if returned > 0 {
            self.fetching.look_again();
        }
        if last {
            self.sweeping.reclaiming = false;
            // There may be more dead nodes.
            self.times.next_heartbeat_ns = 0;
        }
    }

    /// A sweep looks at a bounded number of tags. When there are more the next one follows soon. While messages
    /// come back it looks at the same place; entries that nobody can read are passed over, so that they neither
    /// hide what comes after them nor keep us busy.
    fn sweep_on(&mut self, seen: u64, forgotten: u64, now_ns: MonotonicNs) {
        if seen < SWEEP_BATCH as u64 {
            self.sweeping.reclaimed_before = None;
            self.sweeping.passed = 0;
            return;
        }
        let reclaimed = self.counters.reclaimed;
        let came_back = self.sweeping.reclaimed_before.replace(reclaimed) != Some(reclaimed);
        if !came_back && forgotten == 0 {
            self.sweeping.passed += seen;
        }
        self.sweeping.next_ns = now_ns + NEXT_SWEEP_NS;
    }

    pub(super) fn on_swept(&mut self, ceiling_s: f64, reply: Frame, now_ns: MonotonicNs) -> Result<()> {
        let mut parts = reply.into_array()?.into_iter();
        let returned = parts.next().and_then(|part| part.as_integer()).unwrap_or(0);
        self.counters.reclaimed += returned as u64;
        if returned > 0 {
            self.fetching.look_again();
        }
        let Some(foreign) = parts.next() else { return Ok(()) };
        let mut foreign = foreign.into_array()?.into_iter();
        let mut count = || parts.next().and_then(|part| part.as_integer()).unwrap_or(0).max(0) as u64;
        let (seen, forgotten) = (count(), count());
        self.sweep_on(seen, forgotten, now_ns);
        while let (Some(tag), Some(entry)) = (foreign.next(), foreign.next()) {
            self.restore(tag.into_bytes()?, &entry.into_bytes()?, ceiling_s, now_ns);
        }
        Ok(())
    }

    /// Finds out where a message belongs and hands it back; one that nobody can read is left alone.
    fn restore(&mut self, tag: Vec<u8>, entry: &[u8], ceiling_s: f64, now_ns: MonotonicNs) {
        if tag.starts_with(&self.keys.tag_prefix) {
            self.return_stray(&tag, now_ns);
            return;
        }
        let Some(entry) = foreign_entry(entry) else { return };
        let Ok(envelope) = parse_envelope(entry.message.to_vec(), self.config.max_message_bytes) else { return };
        let restore = Restore {
            tag,
            ceiling_s,
            message: entry.message.to_vec(),
            priority: envelope.priority(),
            queues: Vec::new(),
        };
        let restore = Box::new(restore);
        if entry.exchange.is_empty() {
            let queues = vec![entry.routing_key];
            self.ask(Request::Restore(Box::new(Restore { queues, ..*restore })), now_ns);
        } else {
            let (exchange, routing_key) = (entry.exchange, entry.routing_key);
            self.ask(Request::Bindings { restore, exchange, routing_key }, now_ns);
        }
    }

    /// A tag of ours that nobody renewed: the answer that named it never reached us.
    fn return_stray(&mut self, tag: &[u8], now_ns: MonotonicNs) {
        let Some(number) = number_in(tag).filter(|number| !self.leases.contains(*number)) else { return };
        if self.settling.unconfirmed() == 0 {
            self.ask(Request::Undo { first_counter: keys::counter_of(number), want: 1 }, now_ns);
        }
    }

    pub(super) fn on_bindings(
        &mut self,
        mut restore: Restore,
        routing_key: &str,
        reply: Frame,
        now_ns: MonotonicNs,
    ) -> Result<()> {
        let separator = &self.config.separator;
        for binding in reply.into_array()? {
            let Some(binding) = binding.as_str() else { continue };
            let mut parts = binding.split(separator.as_str());
            let (Some(bound), Some(pattern), Some(queue)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            // kombu stores a pattern for topic exchanges only.
            let fits = if pattern.is_empty() { bound == routing_key } else { topic_fits(bound, routing_key) };
            if fits && !restore.queues.iter().any(|other| other == queue) {
                restore.queues.push(queue.to_owned());
            }
        }
        // Bound nowhere: kombu would drop it into a dead-letter queue; a stock worker may still do so.
        if !restore.queues.is_empty() {
            self.ask(Request::Restore(Box::new(restore)), now_ns);
        }
        Ok(())
    }

    pub(super) fn on_restored(&mut self, reply: &Frame) {
        if reply.as_integer() == Some(1) {
            self.counters.reclaimed += 1;
            self.fetching.look_again();
        }
    }
}

fn number_in(tag: &[u8]) -> Option<u64> {
    let digits = tag.rsplit(|byte| *byte == b':').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn counter_in(tag: &[u8]) -> u64 {
    number_in(tag).map_or(0, keys::counter_of)
}

/// Whether a routing key fits a topic binding, as kombu matches it: `*` is one word, `#` any text.
fn topic_fits(bound: &str, routing_key: &str) -> bool {
    let Some((word, rest)) = bound.split_once('.') else { return last_word_fits(bound, routing_key) };
    match word {
        "#" => routing_key.match_indices('.').any(|(at, _)| topic_fits(rest, &routing_key[at + 1..])),
        _ => match routing_key.split_once('.') {
            Some((head, tail)) => last_word_fits(word, head) && topic_fits(rest, tail),
            None => false,
        },
    }
}

fn last_word_fits(bound: &str, word: &str) -> bool {
    match bound {
        "#" => true,
        "*" => !word.is_empty() && !word.contains('.'),
        literal => literal == word,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn topics_match_like_kombu() {
        let cases = [
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.#", "a.b.c", true),
            ("a.#", "a", false),
            ("#", "", true),
            ("#.z", "a.b.z", true),
            ("#.z", "z", false),
            ("*.b.#", "x.b.c.d", true),
        ];
        for (bound, key, fits) in cases {
            assert_eq!(topic_fits(bound, key), fits, "{bound} {key}");
        }
    }

    #[test]
    fn counters_are_read_from_tags() {
        assert_eq!(counter_in(b"pyw:celery@host:1:2:0002560"), 5);
        assert_eq!(counter_in(b"pyw:x:"), 0);
    }
}
