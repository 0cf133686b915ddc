//! What the server has sent on the present channel and was not told the end of.
//!
//! Acks leave in batches: everything from the oldest delivery on that is finished goes as one multiple ack, the rest
//! one by one. The server does not confirm acks; a `basic.qos` behind them does, because a channel's methods are
//! handled in order.

use std::collections::BTreeMap;

use crate::broker::adoption::{Identity, Settled};
use crate::broker::{DeliveryTag, Settlement};
use crate::wire::amqp::{write_ack, write_nack};

/// Bits of an engine's tag that are the server's delivery tag; the others count the channels.
const DELIVERY_BITS: u32 = 40;

/// One delivery.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// Index of its queue.
    pub(super) queue: u16,
    /// Which consumer of that queue it came to.
    pub(super) consumer: u32,
    /// The message.
    pub(super) identity: Identity,
    /// The name under which the engine knows it; `None` while it waits in the buffer.
    pub(super) handed: Option<DeliveryTag>,
    finished: bool,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Unacked {
    epoch: u64,
    entries: BTreeMap<u64, Entry>,
    acks: Vec<u64>,
    returns: Vec<(u64, Settlement)>,
    /// Written since the last barrier.
    unconfirmed: Vec<Settled>,
    /// Before the barrier on its way.
    confirming: Option<Vec<Settled>>,
}

impl Unacked {
    /// The engine's name for a delivery of the present channel.
    pub(super) fn tag(&self, delivery: u64) -> DeliveryTag {
        self.epoch << DELIVERY_BITS | delivery
    }

    /// The delivery that a tag of the present channel names.
    pub(super) fn delivery(&self, tag: DeliveryTag) -> Option<u64> {
        let delivery = tag & ((1 << DELIVERY_BITS) - 1);
        (tag >> DELIVERY_BITS == self.epoch && self.get(delivery).is_some()).then_some(delivery)
    }

    /// A delivery came.
    pub(super) fn receive(&mut self, delivery: u64, queue: u16, consumer: u32, identity: Identity) {
        self.entries.insert(delivery, Entry { queue, consumer, identity, handed: None, finished: false });
    }

    /// The engine got it, under this name.
    pub(super) fn hand(&mut self, delivery: u64, tag: DeliveryTag) {
        if let Some(entry) = self.entries.get_mut(&delivery) {
            entry.handed = Some(tag);
        }
    }

    /// A delivery, unless its end was given already.
    fn get(&self, delivery: u64) -> Option<&Entry> {
        self.entries.get(&delivery).filter(|entry| !entry.finished)
    }

    /// Queues the end of a delivery; nothing for one that has ended.
    pub(super) fn settle(&mut self, delivery: u64, how: Settlement) {
        let Some(entry) = self.entries.get_mut(&delivery).filter(|entry| !entry.finished) else { return };
        entry.finished = true;
        match how {
            Settlement::Ack => self.acks.push(delivery),
            _ => self.returns.push((delivery, how)),
        }
    }

    /// Ends queued, or written and not confirmed.
    pub(super) fn pending(&self) -> usize {
        self.acks.len() + self.returns.len() + self.unconfirmed.len() + self.confirming.as_ref().map_or(0, Vec::len)
    }

    /// Whether anything waits to be written.
    pub(super) fn has_unsent(&self) -> bool {
        !(self.acks.is_empty() && self.returns.is_empty())
    }

    /// Appends what was queued; tells each consumer's queue and number about the credit that this gives back.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, channel: u16, mut released: impl FnMut(u16, u32)) {
        self.write_returns(out, channel, &mut released);
        if self.acks.is_empty() {
            return;
        }
        let mut prefix: Option<(u64, usize)> = None;
        while let Some(first) = self.entries.first_entry() {
            if !first.get().finished {
                break;
            }
            let (delivery, entry) = first.remove_entry();
            released(entry.queue, entry.consumer);
            self.unconfirmed.push(Settled { identity: entry.identity, how: Settlement::Ack });
            prefix = Some((delivery, prefix.map_or(1, |(_, count)| count + 1)));
        }
        if let Some((last, count)) = prefix {
            write_ack(out, channel, last, count > 1);
        }
        let mut acks = std::mem::take(&mut self.acks);
        acks.sort_unstable();
        for delivery in acks.drain(..) {
            if let Some(entry) = self.entries.remove(&delivery) {
                released(entry.queue, entry.consumer);
                self.unconfirmed.push(Settled { identity: entry.identity, how: Settlement::Ack });
                write_ack(out, channel, delivery, false);
            }
        }
        self.acks = acks;
    }

    /// Returns and rejections, oldest first. Those that nothing older stands before go back in one step, so that
    /// the queue has them in their old order again.
    fn write_returns(&mut self, out: &mut Vec<u8>, channel: u16, released: &mut impl FnMut(u16, u32)) {
        if self.returns.is_empty() {
            return;
        }
        let mut returns = std::mem::take(&mut self.returns);
        returns.sort_unstable_by_key(|(delivery, _)| *delivery);
        let requeues = |how: &Settlement| !matches!(how, Settlement::Reject);
        let same = returns.iter().all(|(_, how)| requeues(how) == requeues(&returns[0].1));
        let at_once = same && self.entries.keys().zip(&returns).all(|(one, (other, _))| one == other);
        if at_once && let Some((last, how)) = returns.last() {
            write_nack(out, channel, *last, true, requeues(how));
        }
        for (delivery, how) in returns.drain(..) {
            let Some(entry) = self.entries.remove(&delivery) else { continue };
            released(entry.queue, entry.consumer);
            self.unconfirmed.push(Settled { identity: entry.identity, how });
            if !at_once {
                write_nack(out, channel, delivery, false, requeues(&how));
            }
        }
        self.returns = returns;
    }

    /// Whether a barrier is of use now; from here on it counts as sent.
    pub(super) fn begin_barrier(&mut self) -> bool {
        if self.confirming.is_some() || self.unconfirmed.is_empty() {
            return false;
        }
        self.confirming = Some(std::mem::take(&mut self.unconfirmed));
        true
    }

    /// The barrier came back: how many ends are confirmed by it.
    pub(super) fn on_barrier(&mut self) -> u64 {
        self.confirming.take().map_or(0, |settled| settled.len() as u64)
    }

    /// The channel is gone: what the engine holds, and the ends that the server may not have seen.
    pub(super) fn on_channel_lost(&mut self) -> (Vec<(DeliveryTag, Identity)>, Vec<Settled>) {
        let mut settled = self.confirming.take().unwrap_or_default();
        settled.append(&mut self.unconfirmed);
        let acks = std::mem::take(&mut self.acks).into_iter().map(|delivery| (delivery, Settlement::Ack));
        for (delivery, how) in acks.chain(std::mem::take(&mut self.returns)) {
            if let Some(entry) = self.entries.remove(&delivery) {
                settled.push(Settled { identity: entry.identity, how });
            }
        }
        let entries = std::mem::take(&mut self.entries);
        let held = entries.values().filter_map(|entry| entry.handed.map(|tag| (tag, entry.identity))).collect();
        self.epoch += 1;
        (held, settled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unacked(count: u64) -> Unacked {
        let mut unacked = Unacked::default();
        (1..=count).for_each(|delivery| unacked.receive(delivery, 0, 0, delivery));
        unacked
    }

    fn written(unacked: &mut Unacked) -> Vec<u8> {
        let mut out = Vec::new();
        unacked.write(&mut out, 1, |_, _| {});
        out
    }

    fn frames(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    #[test]
    fn the_oldest_go_as_one_ack_and_the_others_one_by_one() {
        let mut unacked = unacked(6);
        [3, 1, 2, 5].into_iter().for_each(|delivery| unacked.settle(delivery, Settlement::Ack));
        let expected = frames(|out| {
            write_ack(out, 1, 3, true);
            write_ack(out, 1, 5, false);
        });
        assert_eq!(written(&mut unacked), expected);
        unacked.settle(4, Settlement::Ack);
        assert_eq!(written(&mut unacked), frames(|out| write_ack(out, 1, 4, false)));
    }

    #[test]
    fn an_ack_never_covers_a_delivery_that_is_returned() {
        let mut unacked = unacked(3);
        unacked.settle(2, Settlement::Requeue);
        unacked.settle(1, Settlement::Ack);
        unacked.settle(3, Settlement::Ack);
        let expected = frames(|out| {
            write_nack(out, 1, 2, false, true);
            write_ack(out, 1, 3, true);
        });
        assert_eq!(written(&mut unacked), expected);
    }

    #[test]
    fn the_oldest_are_returned_in_one_step() {
        let mut unacked = unacked(4);
        [2, 1, 3].into_iter().for_each(|delivery| unacked.settle(delivery, Settlement::Release));
        assert_eq!(written(&mut unacked), frames(|out| write_nack(out, 1, 3, true, true)));
        unacked.settle(4, Settlement::Reject);
        assert_eq!(written(&mut unacked), frames(|out| write_nack(out, 1, 4, true, false)));
    }

    #[test]
    fn a_barrier_confirms_what_was_written_before_it() {
        let mut unacked = unacked(3);
        unacked.settle(1, Settlement::Ack);
        written(&mut unacked);
        assert!(unacked.begin_barrier());
        unacked.settle(2, Settlement::Ack);
        written(&mut unacked);
        assert!(!unacked.begin_barrier());
        assert_eq!((unacked.on_barrier(), unacked.pending()), (1, 1));
    }

    #[test]
    fn a_lost_channel_tells_what_was_held_and_what_may_not_have_been_seen() {
        let mut unacked = unacked(4);
        let tag = unacked.tag(1);
        unacked.hand(1, tag);
        unacked.settle(2, Settlement::Ack);
        written(&mut unacked);
        unacked.settle(3, Settlement::Reject);
        let (held, settled) = unacked.on_channel_lost();
        assert_eq!(held, [(tag, 1)]);
        let ends: Vec<_> = settled.iter().map(|settled| (settled.identity, settled.how)).collect();
        assert_eq!(ends, [(2, Settlement::Ack), (3, Settlement::Reject)]);
        assert_eq!((unacked.pending(), unacked.delivery(tag)), (0, None));
    }
}
