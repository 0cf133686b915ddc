//! Deliveries that must wait for their time, keyed by deadline.
//!
//! An entry is 16 bytes: a million scheduled tasks are held by their tags alone, their messages stay at
//! the broker and are recalled when due. Removal is lazy: a tag that is no longer live is skipped.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashSet};

use crate::broker::DeliveryTag;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Entry {
    due_s: f64,
    tag: DeliveryTag,
}

impl Eq for Entry {}

impl Ord for Entry {
    // Reversed, because BinaryHeap keeps the greatest on top; equal times keep their order of arrival.
    fn cmp(&self, other: &Self) -> Ordering {
        other.due_s.total_cmp(&self.due_s).then(other.tag.cmp(&self.tag))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The heap of scheduled deliveries.
#[derive(Debug, Default)]
pub struct EtaHeap {
    heap: BinaryHeap<Entry>,
    /// Tags removed before their time; their heap entries are skipped when they surface.
    cancelled: HashSet<DeliveryTag>,
}

impl EtaHeap {
    /// An empty heap.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Holds a tag until a wall-clock time in seconds since the epoch.
    pub fn push(&mut self, due_s: f64, tag: DeliveryTag) {
        self.cancelled.remove(&tag);
        self.heap.push(Entry { due_s, tag });
    }

    /// Forgets a tag before its time. The caller knows that it is held.
    pub fn cancel(&mut self, tag: DeliveryTag) {
        self.cancelled.insert(tag);
    }

    /// The earliest time, if anything is held.
    pub fn next_due_s(&mut self) -> Option<f64> {
        while let Some(entry) = self.heap.peek() {
            if self.cancelled.is_empty() || !self.cancelled.remove(&entry.tag) {
                return Some(entry.due_s);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes out up to `limit` tags whose time has come, earliest first.
    pub fn pop_due(&mut self, now_s: f64, limit: usize, due: &mut Vec<DeliveryTag>) {
        for _ in 0..limit {
            match self.next_due_s() {
                Some(due_s) if due_s <= now_s => {
                    if let Some(entry) = self.heap.pop() {
                        due.push(entry.tag);
                    }
                }
                _ => return,
            }
        }
    }

    /// Takes out everything, in no particular order (shutdown).
    pub fn drain(&mut self) -> Vec<DeliveryTag> {
        let cancelled = std::mem::take(&mut self.cancelled);
        self.heap.drain().map(|entry| entry.tag).filter(|tag| !cancelled.contains(tag)).collect()
    }

    /// All held (due time, tag) pairs, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (f64, DeliveryTag)> + '_ {
        self.heap.iter().filter(|entry| !self.cancelled.contains(&entry.tag)).map(|entry| (entry.due_s, entry.tag))
    }

    /// How many are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len().saturating_sub(self.cancelled.len())
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pops_in_order_of_deadline_and_arrival() {
        let mut heap = EtaHeap::new();
        heap.push(30.0, 1);
        heap.push(10.0, 2);
        heap.push(10.0, 3);
        let mut due = Vec::new();
        heap.pop_due(9.9, 10, &mut due);
        assert!(due.is_empty());
        heap.pop_due(30.0, 10, &mut due);
        assert_eq!(due, [2, 3, 1]);
        assert!(heap.is_empty());
    }

    #[test]
    fn a_cancelled_tag_never_surfaces() {
        let mut heap = EtaHeap::new();
        heap.push(1.0, 7);
        heap.push(2.0, 8);
        heap.cancel(7);
        assert_eq!(heap.len(), 1);
        assert_eq!(heap.next_due_s(), Some(2.0));
        assert_eq!(heap.drain(), [8]);
    }

    #[test]
    fn the_limit_bounds_one_batch() {
        let mut heap = EtaHeap::new();
        for tag in 0..100 {
            heap.push(0.0, tag);
        }
        let mut due = Vec::new();
        heap.pop_due(1.0, 10, &mut due);
        assert_eq!(due.len(), 10);
        assert_eq!(heap.len(), 90);
    }
}
