//! When to fetch, how much, and what the answer means.
//!
//! ```text
//!             fetch left nothing, EXISTS 0        push, or a lease tick
//!  Unknown --------------------------> Armed ---------------------------> Waking --(jitter)--> Unknown
//!   |  ^  ^
//!   |  |  '--- something was left, or came meanwhile
//!   |  '------ next poll (1 to 20 ms) ---- Polling   (where tracking is refused)
//!   '--(pair [fetch, EXISTS] is on its way)--> Probing --> any of the above
//! ```
//!
//! While messages keep coming only fetches are sent, two at a time, so that the server works on one while
//! we read the other. When all lists turned out empty nothing is sent at all: the server tells us.

use super::connection::to_ns;
use super::keys::{Keys, ListIndex};
use super::request::FetchTicket;
use crate::broker::DeliveryTag;
use crate::clock::MonotonicNs;
use crate::config::QueueOrder;
use crate::error::{Error, ErrorKind, Result};
use crate::wire::resp::Frame;

/// Most messages of one script call: enough to pay for the call, few enough for their copies inside the
/// server to stay in its cache (measured: 5.3 us of server time a message at 100, 7.2 us at 200).
const BATCH_MAX: u32 = 100;
/// Fetches on their way at a time while messages keep coming.
const DEPTH: usize = 2;
/// Polling where the server cannot tell us.
const POLL_MIN_S: f64 = 0.001;
const POLL_MAX_S: f64 = 0.020;
/// Jitter before an idle node fetches, for each other node, and its bound.
const JITTER_PER_NODE_NS: u64 = 20_000;
const JITTER_MAX_NS: u64 = 5_000_000;

/// What is known about the lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readiness {
    /// There may be messages.
    Unknown,
    /// A fetch and an EXISTS are on their way.
    Probing,
    /// All lists are empty and the server tells us when that changes.
    Armed,
    /// All lists were empty; look again then.
    Polling { at_ns: MonotonicNs },
    /// Told that something came; the jitter is not over.
    Waking { at_ns: MonotonicNs },
}

/// A message as the script gave it.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) tag: DeliveryTag,
    pub(super) list: ListIndex,
    pub(super) message: Vec<u8>,
}

/// The answer to a fetch.
#[derive(Debug, Default)]
pub(super) struct FetchAnswer {
    /// In the order in which kombu would have delivered them.
    pub(super) messages: Vec<Fetched>,
    /// Of messages that had been delivered before: tag, how often, under which digest that is counted.
    pub(super) redelivered: Vec<(DeliveryTag, u32, Vec<u8>)>,
    /// Whether the script left messages behind.
    pub(super) more: bool,
}

/// The consuming side's state.
#[derive(Debug)]
pub(super) struct Fetching {
    demand: u32,
    /// Active queues in reading order; the first is read first.
    cycle: Vec<u16>,
    fair: bool,
    readiness: Readiness,
    /// Whether the last answer left messages behind: then no EXISTS is needed.
    hot: bool,
    /// Something came while a probe was on its way.
    stirred: bool,
    tracking: bool,
    poll_wait_s: f64,
    in_flight: usize,
    requested: u32,
    next_counter: u64,
    /// A busy server is left alone until then.
    not_before_ns: MonotonicNs,
    /// Live nodes including us.
    pub(super) nodes: u32,
    random: u64,
}

impl Fetching {
    pub(super) fn new(queues: usize, order: QueueOrder, seed: u64) -> Self {
        Self {
            demand: 0,
            cycle: (0..queues).map(|queue| queue as u16).collect(),
            fair: order == QueueOrder::RoundRobin,
            readiness: Readiness::Unknown,
            hot: false,
            stirred: false,
            tracking: false,
            poll_wait_s: POLL_MIN_S,
            in_flight: 0,
            requested: 0,
            next_counter: 1,
            not_before_ns: 0,
            nodes: 1,
            random: seed | 1,
        }
    }

    /// A new connection: nothing is on its way, nothing is known.
    pub(super) fn reset(&mut self, tracking: bool) {
        self.tracking = tracking;
        self.in_flight = 0;
        self.requested = 0;
        self.not_before_ns = 0;
        self.readiness = Readiness::Unknown;
        self.look_again();
    }

    /// The server refused an EXISTS or its tracking: poll.
    pub(super) fn give_up_tracking(&mut self) {
        self.tracking = false;
        self.readiness = Readiness::Unknown;
    }

    pub(super) fn set_demand(&mut self, messages: u32) {
        self.demand = messages;
    }

    /// Starts or stops reading a queue.
    pub(super) fn set_active(&mut self, queue: u16, active: bool) {
        let at = self.cycle.iter().position(|other| *other == queue);
        match (at, active) {
            (Some(at), false) => drop(self.cycle.remove(at)),
            (None, true) => {
                // The configured order counts unless turns are taken anyway.
                let at = if self.fair { self.cycle.len() } else { self.cycle.partition_point(|other| *other < queue) };
                self.cycle.insert(at, queue);
            }
            _ => return,
        }
        self.look_again();
    }

    /// There may be messages that nobody will tell us about.
    pub(super) fn look_again(&mut self) {
        self.stirred = true;
        // An EXISTS on its way answers an older question; its answer ends the probe, as `stirred`.
        if self.readiness != Readiness::Probing {
            self.readiness = Readiness::Unknown;
        }
        self.hot = false;
    }

    /// The server says that a list changed.
    pub(super) fn on_invalidated(&mut self, now_ns: MonotonicNs) {
        self.stirred = true;
        if self.readiness == Readiness::Armed {
            self.readiness = match self.jitter_ns() {
                0 => Readiness::Unknown,
                wait_ns => Readiness::Waking { at_ns: now_ns + wait_ns },
            };
        }
    }

    /// The server is busy; in `wait_s` the same again.
    pub(super) fn back_off(&mut self, now_ns: MonotonicNs, wait_s: f64) {
        self.not_before_ns = now_ns + to_ns(wait_s);
    }

    /// The next fetch to send, and whether an EXISTS goes with it.
    pub(super) fn next(&mut self, now_ns: MonotonicNs) -> Option<(FetchTicket, bool)> {
        match self.readiness {
            Readiness::Waking { at_ns } | Readiness::Polling { at_ns } if at_ns <= now_ns => {
                self.readiness = Readiness::Unknown;
            }
            _ => {}
        }
        let depth = if self.hot { DEPTH } else { 1 };
        let want = self.demand.saturating_sub(self.requested).min(BATCH_MAX);
        let held_up = self.readiness != Readiness::Unknown || now_ns < self.not_before_ns || self.in_flight >= depth;
        if held_up || want == 0 || self.cycle.is_empty() {
            return None;
        }
        let probe = self.tracking && !self.hot;
        if probe {
            self.readiness = Readiness::Probing;
            self.stirred = false;
        }
        let ticket = FetchTicket {
            first_counter: self.next_counter,
            want,
            order: self.cycle.as_slice().into(),
            fair: self.fair,
        };
        self.next_counter += u64::from(want);
        self.in_flight += 1;
        self.requested += want;
        Some((ticket, probe))
    }

    /// A fetch ended, with this answer or none.
    pub(super) fn on_fetched(&mut self, ticket: &FetchTicket, answer: Option<&FetchAnswer>, now_ns: MonotonicNs) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.requested = self.requested.saturating_sub(ticket.want);
        let Some(answer) = answer else { return self.look_again() };
        self.demand = self.demand.saturating_sub(answer.messages.len() as u32);
        self.hot = answer.more;
        if self.tracking {
            return;
        }
        if answer.messages.is_empty() {
            self.readiness = Readiness::Polling { at_ns: now_ns + to_ns(self.poll_wait_s) };
            self.poll_wait_s = (self.poll_wait_s * 1.5).min(POLL_MAX_S);
        } else {
            self.poll_wait_s = POLL_MIN_S;
        }
    }

    /// The EXISTS that went with a fetch said how many lists there are.
    pub(super) fn on_existing(&mut self, lists: i64) {
        if self.readiness == Readiness::Probing {
            let quiet = lists == 0 && !self.stirred;
            self.readiness = if quiet { Readiness::Armed } else { Readiness::Unknown };
        }
    }

    /// Moves the queues that gave messages to the end, in the order in which they gave them.
    pub(super) fn rotate(&mut self, used: &[u16]) {
        if !self.fair || self.cycle.len() < 2 {
            return;
        }
        for queue in used {
            if let Some(at) = self.cycle.iter().position(|other| other == queue) {
                self.cycle.remove(at);
                self.cycle.push(*queue);
            }
        }
    }

    /// When `next` may have something although nothing happened.
    pub(super) fn deadline_ns(&self) -> Option<MonotonicNs> {
        if self.demand <= self.requested || self.cycle.is_empty() {
            return None;
        }
        match self.readiness {
            Readiness::Waking { at_ns } | Readiness::Polling { at_ns } => Some(at_ns.max(self.not_before_ns)),
            Readiness::Unknown if self.in_flight == 0 => Some(self.not_before_ns),
            Readiness::Unknown | Readiness::Probing | Readiness::Armed => None,
        }
    }

    /// All idle nodes are told of one message; those that wait a little longer find it gone and rest.
    fn jitter_ns(&mut self) -> u64 {
        let others = u64::from(self.nodes.saturating_sub(1));
        if others < 2 {
            return 0;
        }
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % (others * JITTER_PER_NODE_NS).min(JITTER_MAX_NS)
    }
}

/// Reads the fetch script's answer.
pub(super) fn read_answer(reply: Frame, ticket: &FetchTicket, keys: &Keys) -> Result<FetchAnswer> {
    let malformed = || Error::new(ErrorKind::Protocol, "the fetch script answered in an unknown form");
    let mut parts = reply.into_array()?.into_iter();
    let more = parts.next().and_then(|part| part.as_integer()).ok_or_else(malformed)? != 0;
    let mut notes = parts.next().ok_or_else(malformed)?.into_array()?.into_iter();
    let mut groups = Vec::new();
    for part in parts {
        let mut group = part.into_array()?.into_iter();
        let position = group.next().and_then(|part| part.as_integer()).ok_or_else(malformed)? as usize;
        if !(1..=ticket.order.len() * keys.steps.len()).contains(&position) {
            return Err(malformed());
        }
        let counter = group.next().and_then(|part| part.as_integer()).ok_or_else(malformed)? as u64;
        if counter.checked_sub(ticket.first_counter).is_none_or(|used| used > u64::from(ticket.want)) {
            return Err(malformed());
        }
        let (step, nth) = ((position - 1) / ticket.order.len(), (position - 1) % ticket.order.len());
        let list = keys.list_index(step, ticket.order[nth]);
        groups.push(Group { step, list, first_counter: counter, counter, messages: group });
    }
    let mut redelivered = Vec::new();
    while let (Some(counter), Some(count), Some(digest)) = (notes.next(), notes.next(), notes.next()) {
        let counter = counter.as_integer().ok_or_else(malformed)? as u64;
        let group = groups.iter().rfind(|group| group.counter <= counter).ok_or_else(malformed)?;
        let count = count.as_integer().ok_or_else(malformed)?;
        redelivered.push((
            keys.tag(counter, group.list, counter == group.first_counter),
            count.clamp(0, i64::from(u32::MAX)) as u32,
            digest.into_bytes()?,
        ));
    }
    Ok(FetchAnswer { messages: interleave(groups, ticket, keys)?, redelivered, more })
}

/// The messages that one list gave.
struct Group {
    step: usize,
    list: ListIndex,
    first_counter: u64,
    counter: u64,
    messages: std::vec::IntoIter<Frame>,
}

/// Under fair reading the queues of a step take turns, message by message.
fn interleave(mut groups: Vec<Group>, ticket: &FetchTicket, keys: &Keys) -> Result<Vec<Fetched>> {
    let total = groups.iter().map(|group| group.messages.len()).sum();
    let mut messages = Vec::with_capacity(total);
    let mut first = 0;
    while first < groups.len() {
        let step = groups[first].step;
        let end = if ticket.fair {
            groups[first..].iter().position(|group| group.step != step).map_or(groups.len(), |size| first + size)
        } else {
            first + 1
        };
        let turn = &mut groups[first..end];
        let longest = turn.iter().map(|group| group.messages.len()).max().unwrap_or(0);
        for _ in 0..longest {
            for group in turn.iter_mut() {
                if let Some(message) = group.messages.next() {
                    let tag = keys.tag(group.counter, group.list, group.counter == group.first_counter);
                    group.counter += 1;
                    messages.push(Fetched { tag, list: group.list, message: message.into_bytes()? });
                }
            }
        }
        first = end;
    }
    Ok(messages)
}

#[cfg(test)]
mod tests;
