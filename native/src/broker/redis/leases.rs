//! What we hold at the broker, and until when.
//!
//! Two clocks run against us. Stock workers take any message whose score is older than their
//! `visibility_timeout`; other pyworkers take the messages of a node that has not been heard of for
//! [`DEAD_AFTER_S`]. A reserved task may start only while less than half of either has passed since we
//! last proved that we live, so that nobody else can have it. Parked messages carry their due time as
//! score and need no renewal until it has come.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::connection::to_ns;
use super::keys::ListIndex;
use crate::broker::DeliveryTag;
use crate::clock::MonotonicNs;

/// A node that was silent for so long is dead: its messages go back.
pub(super) const DEAD_AFTER_S: f64 = 15.0;
/// Longest time between two signs of life, and between two renewals.
const HEARTBEAT_MAX_S: f64 = 4.0;
const RENEWAL_MAX_S: f64 = 10.0;

/// Tags are consecutive numbers: one multiplication spreads them well.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct TagHasher(u64);

impl Hasher for TagHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        let spread = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = spread ^ (spread >> 32);
    }
}

type TagMap<V> = HashMap<DeliveryTag, V, BuildHasherDefault<TagHasher>>;

#[derive(Debug, Clone, Copy)]
struct Parked {
    until_s: f64,
    list: ListIndex,
}

/// All leases.
#[derive(Debug, Default)]
pub(super) struct LeaseTable {
    held: TagMap<ListIndex>,
    parked: TagMap<Parked>,
    /// Only of messages that were delivered before: under which digest the server counts them.
    digests: TagMap<Vec<u8>>,
}

impl LeaseTable {
    pub(super) fn hold(&mut self, tag: DeliveryTag, list: ListIndex) {
        self.held.insert(tag, list);
    }

    pub(super) fn note_digest(&mut self, tag: DeliveryTag, digest: Vec<u8>) {
        self.digests.insert(tag, digest);
    }

    /// The lease ends; says which list the message came from, and its digest if it is being counted.
    pub(super) fn release(&mut self, tag: DeliveryTag) -> Option<(ListIndex, Option<Vec<u8>>)> {
        let list = self.held.remove(&tag).or_else(|| self.parked.remove(&tag).map(|parked| parked.list))?;
        let digest = if self.digests.is_empty() { None } else { self.digests.remove(&tag) };
        Some((list, digest))
    }

    /// Puts a lease aside until a time; false when it is not ours.
    pub(super) fn park(&mut self, tag: DeliveryTag, until_s: f64) -> bool {
        let list = self.held.remove(&tag).or_else(|| self.parked.get(&tag).map(|parked| parked.list));
        match list {
            Some(list) => self.parked.insert(tag, Parked { until_s, list }),
            None => return false,
        };
        true
    }

    /// A parked lease is held again; says its list.
    pub(super) fn unpark(&mut self, tag: DeliveryTag) -> Option<ListIndex> {
        let list = self.parked.remove(&tag)?.list;
        self.held.insert(tag, list);
        Some(list)
    }

    pub(super) fn contains(&self, tag: DeliveryTag) -> bool {
        self.held.contains_key(&tag) || self.parked.contains_key(&tag)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.parked.is_empty()
    }

    /// The tags whose score must move on: everything held, and what is due but was not recalled yet.
    pub(super) fn renewable(&self, now_s: f64) -> Vec<DeliveryTag> {
        let due = self.parked.iter().filter(|(_, parked)| parked.until_s <= now_s).map(|(tag, _)| *tag);
        self.held.keys().copied().chain(due).collect()
    }
}

/// When leases are renewed and until when they allow a start.
#[derive(Debug)]
pub(super) struct LeaseTimes {
    visibility_timeout_s: f64,
    /// When the last confirmed renewal and sign of life were sent.
    renewed_ns: MonotonicNs,
    alive_ns: MonotonicNs,
    pub(super) next_renewal_ns: MonotonicNs,
    pub(super) next_heartbeat_ns: MonotonicNs,
}

impl LeaseTimes {
    pub(super) fn new(visibility_timeout_s: f64) -> Self {
        Self { visibility_timeout_s, renewed_ns: 0, alive_ns: 0, next_renewal_ns: 0, next_heartbeat_ns: 0 }
    }

    pub(super) fn renewal_interval_ns(&self) -> MonotonicNs {
        to_ns((self.visibility_timeout_s / 3.0).min(RENEWAL_MAX_S))
    }

    pub(super) fn heartbeat_interval_ns(&self) -> MonotonicNs {
        to_ns((self.visibility_timeout_s / 3.0).min(HEARTBEAT_MAX_S))
    }

    pub(super) fn on_renewed(&mut self, sent_ns: MonotonicNs) {
        self.renewed_ns = self.renewed_ns.max(sent_ns);
    }

    pub(super) fn on_alive(&mut self, sent_ns: MonotonicNs) {
        self.alive_ns = self.alive_ns.max(sent_ns);
    }

    /// Everything must be proved anew, now: a new connection.
    pub(super) fn make_due(&mut self) {
        self.next_renewal_ns = 0;
        self.next_heartbeat_ns = 0;
    }

    pub(super) fn start_deadline_ns(&self) -> MonotonicNs {
        let by_stock = self.renewed_ns + to_ns(self.visibility_timeout_s / 2.0);
        let by_peers = self.alive_ns + to_ns(DEAD_AFTER_S / 2.0);
        if self.renewed_ns == 0 || self.alive_ns == 0 { 0 } else { by_stock.min(by_peers) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn parked_leases_are_renewed_only_when_due() {
        let mut table = LeaseTable::default();
        table.hold(1, 0);
        table.hold(2, 0);
        assert!(table.park(2, 100.0));
        assert!(!table.park(3, 100.0));
        assert_eq!(table.renewable(99.0), [1]);
        assert_eq!(table.renewable(100.0).len(), 2);
        assert_eq!(table.unpark(2), Some(0));
        assert_eq!(table.unpark(2), None);
        assert!(table.release(2).is_some());
        assert!(!table.contains(2));
    }

    #[test]
    fn starting_needs_both_proofs() {
        let mut times = LeaseTimes::new(10.0);
        assert_eq!(times.start_deadline_ns(), 0);
        times.on_renewed(1_000_000_000);
        assert_eq!(times.start_deadline_ns(), 0);
        times.on_alive(1_000_000_000);
        assert_eq!(times.start_deadline_ns(), 6_000_000_000);
        times.on_renewed(9_000_000_000);
        assert_eq!(times.start_deadline_ns(), 8_500_000_000);
    }
}
