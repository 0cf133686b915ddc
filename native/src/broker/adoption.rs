//! Messages that a lost channel gave back while their tasks run here.
//!
//! The server hands every delivery of a lost channel out again, also those whose task is still running or whose ack
//! was on its way. When such a message comes back to this node it is not run again: it takes the place of the
//! delivery that was lost (adopted), or gets the end that the first one got.

use std::collections::{HashMap, VecDeque};

use super::{DeliveryTag, Settlement};

/// Most ends that are remembered; the oldest are forgotten first.
const ENDS_MAX: usize = 65_536;

/// Names a message across deliveries.
pub(super) type Identity = u64;

/// An end that was written and not confirmed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Settled {
    /// The message.
    pub(super) identity: Identity,
    /// Its end.
    pub(super) how: Settlement,
}

/// What becomes of a message that came again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Claim {
    /// Its task runs here, under this name.
    Adopted(DeliveryTag),
    /// It came to this end before.
    Ended(Settlement),
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Adoption {
    /// Deliveries that the engine holds and no channel does.
    orphans: HashMap<DeliveryTag, Identity>,
    waiting: HashMap<Identity, Vec<DeliveryTag>>,
    /// Names of the engine and the deliveries of the present channel that took their place.
    adopted: HashMap<DeliveryTag, u64>,
    ends: HashMap<Identity, Vec<Settlement>>,
    ends_in_order: VecDeque<Identity>,
}

impl Adoption {
    /// A channel is gone.
    pub(super) fn on_channel_lost(&mut self, held: &[(DeliveryTag, Identity)], settled: &[Settled]) {
        self.adopted.clear();
        for (tag, identity) in held {
            self.orphans.insert(*tag, *identity);
            self.waiting.entry(*identity).or_default().push(*tag);
        }
        for settled in settled {
            self.remember(settled.identity, settled.how);
        }
    }

    /// Whether nothing is expected back.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.ends.is_empty()
    }

    /// A message came again; `None` if nobody here knows it.
    pub(super) fn claim(&mut self, identity: Identity, delivery: u64) -> Option<Claim> {
        if let Some(tags) = self.waiting.get_mut(&identity)
            && let Some(tag) = tags.pop()
        {
            if tags.is_empty() {
                self.waiting.remove(&identity);
            }
            self.orphans.remove(&tag);
            self.adopted.insert(tag, delivery);
            return Some(Claim::Adopted(tag));
        }
        let ends = self.ends.get_mut(&identity)?;
        let how = ends.pop()?;
        if ends.is_empty() {
            self.ends.remove(&identity);
        }
        Some(Claim::Ended(how))
    }

    /// The delivery of the present channel behind an adopted name; the name ends with that.
    pub(super) fn take_adopted(&mut self, tag: DeliveryTag) -> Option<u64> {
        self.adopted.remove(&tag)
    }

    /// The engine ends a delivery that no channel holds.
    pub(super) fn settle_orphan(&mut self, tag: DeliveryTag, how: Settlement) {
        let Some(identity) = self.orphans.remove(&tag) else { return };
        if let Some(tags) = self.waiting.get_mut(&identity) {
            tags.retain(|waiting| *waiting != tag);
            if tags.is_empty() {
                self.waiting.remove(&identity);
            }
        }
        self.remember(identity, how);
    }

    fn remember(&mut self, identity: Identity, how: Settlement) {
        // What was handed back is back already.
        if !matches!(how, Settlement::Ack | Settlement::Reject) {
            return;
        }
        self.ends.entry(identity).or_default().push(how);
        self.ends_in_order.push_back(identity);
        while self.ends_in_order.len() > ENDS_MAX {
            if let Some(oldest) = self.ends_in_order.pop_front() {
                self.ends.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_message_is_adopted_once() {
        let mut adoption = Adoption::default();
        adoption.on_channel_lost(&[(7, 70)], &[]);
        assert_eq!(adoption.claim(70, 3), Some(Claim::Adopted(7)));
        assert_eq!(adoption.claim(70, 4), None);
        assert_eq!(adoption.take_adopted(7), Some(3));
    }

    #[test]
    fn an_end_that_the_server_missed_is_given_again() {
        let mut adoption = Adoption::default();
        let settled = Settled { identity: 80, how: Settlement::Ack };
        adoption.on_channel_lost(&[(7, 70)], &[settled]);
        adoption.settle_orphan(7, Settlement::Reject);
        assert_eq!(adoption.claim(70, 1), Some(Claim::Ended(Settlement::Reject)));
        assert_eq!(adoption.claim(80, 2), Some(Claim::Ended(Settlement::Ack)));
        assert!(adoption.is_idle());
    }

    #[test]
    fn what_was_not_started_is_forgotten() {
        let mut adoption = Adoption::default();
        adoption.on_channel_lost(&[(7, 70)], &[]);
        adoption.settle_orphan(7, Settlement::Release);
        assert_eq!(adoption.claim(70, 1), None);
    }

    #[test]
    fn a_second_loss_makes_an_adopted_message_an_orphan_again() {
        let mut adoption = Adoption::default();
        adoption.on_channel_lost(&[(7, 70)], &[]);
        adoption.claim(70, 1);
        adoption.on_channel_lost(&[(7, 70)], &[]);
        assert_eq!(adoption.take_adopted(7), None);
        assert_eq!(adoption.claim(70, 9), Some(Claim::Adopted(7)));
    }
}
