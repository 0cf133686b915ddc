//! Deliveries that the broker's server gave back on its own.

use std::collections::HashSet;

use crate::broker::{DeliveryTag, Settlement};
use crate::engine::jobs::JobHandle;
use crate::engine::node::Node;
use crate::engine::notice::Notice;

impl Node {
    /// Other workers may have these soon: what has not started is dropped here, what runs goes on.
    pub(super) fn on_returned(&mut self, tags: &[DeliveryTag]) {
        let returned: HashSet<DeliveryTag> = tags.iter().copied().collect();
        self.drop_scheduled(&returned);
        for index in 0..self.places.len() {
            let holds = self.places[index].child.as_ref().is_some_and(|child| {
                child.link.handed().any(|handed| {
                    self.jobs.get(handed.job).is_some_and(|job| job.started_ns == 0 && returned.contains(&job.tag))
                })
            });
            if holds {
                self.take_back_all(index);
            }
        }
        // What a child claimed meanwhile still has its place there, and runs.
        let unstarted: HashSet<JobHandle> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.place.is_none() && job.started_ns == 0 && returned.contains(&job.tag))
            .map(|(handle, _)| handle)
            .collect();
        self.ready.retain(|handle| !unstarted.contains(handle));
        self.rates.remove_if(|handle| unstarted.contains(&handle));
        for handle in unstarted {
            self.settle(handle, Some(Settlement::Release));
            self.jobs.remove(handle);
        }
    }

    fn drop_scheduled(&mut self, returned: &HashSet<DeliveryTag>) {
        let scheduled: Vec<DeliveryTag> =
            self.eta.iter().map(|(_, tag)| tag).filter(|tag| returned.contains(tag)).collect();
        for tag in scheduled {
            self.eta.cancel(tag);
            self.scheduled.remove(&tag);
            self.settlements.push((tag, Settlement::Release));
        }
        self.recalled.retain(|tag| !returned.contains(tag));
    }

    /// What ran when the connection broke still fills the pool: less is fetched until some of it is done.
    pub(super) fn lower_prefetch(&mut self) {
        let active = self.pool_load().busy;
        let (lowered, floor) = (self.ledger.on_reconnected(active), self.ledger.floor());
        if let (Some(lowered), Some(floor)) = (lowered, floor) {
            // Celery's words.
            let text = format!(
                "Temporarily reducing the prefetch count to {lowered} to avoid over-fetching since {active} tasks are \
                 currently being processed.\nThe prefetch count will be gradually restored to {floor} as the tasks \
                 complete processing."
            );
            self.notices.push(Notice::log(20, text));
        }
    }
}
