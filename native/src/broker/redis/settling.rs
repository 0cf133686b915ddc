//! Ends of deliveries on their way to the server, in batches, until it confirms them.

use std::collections::BTreeMap;

use super::keys::ListIndex;
use super::request::Request;
use crate::broker::{DeliveryTag, Settlement};

/// Most tags in one command.
const BATCH_MAX: usize = 500;

/// Settlements that were not written yet, kind by kind.
///
/// A tag is parked any number of times and then ends once, so applying all parks first, then the
/// returns, then the acknowledgements keeps the order of every single tag.
#[derive(Debug, Default)]
pub(super) struct SettleQueue {
    parks: Vec<(DeliveryTag, f64)>,
    requeues: BTreeMap<(ListIndex, bool), Vec<DeliveryTag>>,
    acks: Vec<DeliveryTag>,
    /// Digests whose count of deliveries ends with an acknowledgement.
    digests: Vec<Vec<u8>>,
    /// Written before and not confirmed; these go first.
    again: Vec<Request>,
    /// Queued or written, and not confirmed.
    unconfirmed: usize,
}

impl SettleQueue {
    pub(super) fn park(&mut self, tag: DeliveryTag, until_s: f64) {
        self.parks.push((tag, until_s));
        self.unconfirmed += 1;
    }

    /// Queues the end of a delivery that came from `list`.
    pub(super) fn end(&mut self, tag: DeliveryTag, how: Settlement, list: ListIndex, digest: Option<Vec<u8>>) {
        self.unconfirmed += 1;
        match how {
            Settlement::Requeue => self.requeues.entry((list, true)).or_default().push(tag),
            Settlement::Release => self.requeues.entry((list, false)).or_default().push(tag),
            Settlement::Ack | Settlement::Reject | Settlement::Park { .. } => {
                self.acks.push(tag);
                self.digests.extend(digest);
            }
        }
    }

    /// Puts what a lost connection left unanswered in front again.
    pub(super) fn send_again(&mut self, requests: impl IntoIterator<Item = Request>) {
        let newer = std::mem::take(&mut self.again);
        self.again.extend(requests);
        self.again.extend(newer);
    }

    /// How many settlements a request carries.
    pub(super) fn weight(request: &Request) -> usize {
        match request {
            Request::Ack(tags) | Request::Requeue { tags, .. } => tags.len(),
            Request::Park(tags) => tags.len(),
            _ => 0,
        }
    }

    /// The server has applied this many.
    pub(super) fn on_confirmed(&mut self, count: usize) {
        self.unconfirmed = self.unconfirmed.saturating_sub(count);
    }

    pub(super) fn unconfirmed(&self) -> usize {
        self.unconfirmed
    }

    pub(super) fn has_unsent(&self) -> bool {
        !(self.again.is_empty() && self.parks.is_empty() && self.requeues.is_empty() && self.acks.is_empty())
    }

    /// Everything that waits, as requests in the order in which they must be sent.
    pub(super) fn take_requests(&mut self) -> Vec<Request> {
        let mut requests = Vec::new();
        for request in self.again.drain(..) {
            if let Request::Ack(tags) = &request {
                requests.push(Request::Forget(tags.clone()));
            }
            requests.push(request);
        }
        requests.extend(self.parks.chunks(BATCH_MAX).map(|tags| Request::Park(tags.to_vec())));
        self.parks.clear();
        for ((list, counted), mut tags) in std::mem::take(&mut self.requeues) {
            // Youngest first: the oldest must end up at the very end that consumers pop.
            tags.sort_unstable_by(|one, other| other.cmp(one));
            let batches = tags.chunks(BATCH_MAX);
            requests.extend(batches.map(|tags| Request::Requeue { list, counted, tags: tags.to_vec() }));
        }
        for tags in self.acks.chunks(BATCH_MAX) {
            // The entry first: a crash in between leaves a tag without entry, which every sweep tidies up.
            requests.push(Request::Forget(tags.to_vec()));
            requests.push(Request::Ack(tags.to_vec()));
        }
        self.acks.clear();
        if !self.digests.is_empty() {
            requests.push(Request::ForgetDeliveries(std::mem::take(&mut self.digests)));
        }
        requests
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn returns_go_youngest_first_and_before_acknowledgements() {
        let mut queue = SettleQueue::default();
        queue.end(1, Settlement::Ack, 0, None);
        queue.end(2, Settlement::Requeue, 0, None);
        queue.end(3, Settlement::Requeue, 0, None);
        queue.park(4, 9.0);
        let requests = queue.take_requests();
        assert!(matches!(&requests[0], Request::Park(tags) if tags == &[(4, 9.0)]));
        assert!(matches!(&requests[1], Request::Requeue { tags, .. } if tags == &[3, 2]));
        assert!(matches!(&requests[2], Request::Forget(tags) if tags == &[1]));
        assert!(matches!(&requests[3], Request::Ack(tags) if tags == &[1]));
        assert_eq!(queue.unconfirmed(), 4);
        assert!(!queue.has_unsent());
    }

    #[test]
    fn what_was_unanswered_goes_first() {
        let mut queue = SettleQueue::default();
        queue.end(9, Settlement::Ack, 0, None);
        queue.send_again([Request::Ack(vec![7])]);
        let requests = queue.take_requests();
        assert!(matches!(&requests[1], Request::Ack(tags) if tags == &[7]));
        assert!(matches!(&requests[3], Request::Ack(tags) if tags == &[9]));
    }
}
