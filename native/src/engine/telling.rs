//! What the engine's thread leaves for the probes, if there are any.

use crate::clock::MonotonicNs;
use crate::engine::jobs::JobHandle;
use crate::engine::node::Node;
use crate::pool::frames::Outcome;

impl Node {
    pub(super) fn tell_turn_began(&self) {
        if let Some(figures) = self.shared.figures.get() {
            figures.on_turn(self.clock.monotonic_ns());
        }
    }

    pub(super) fn tell_turn_over(&self) {
        let Some(figures) = self.shared.figures.get() else { return };
        let sleeps = self.ended == 0 && !self.restless;
        let children = self.places.iter().filter_map(|place| place.child.as_ref()).filter(|child| child.pid != 0);
        let (alive, busy) = children.fold((0u64, 0u64), |(alive, busy), child| {
            (alive + 1, busy + u64::from(child.link.outstanding() > child.link.unstarted()))
        });
        if figures.on_turn_over(self.clock.monotonic_ns(), sleeps, self.consuming, alive > 0) {
            let mut counters = self.all_counters();
            counters.extend([("children_alive".to_owned(), alive), ("children_busy".to_owned(), busy)]);
            figures.copy(counters);
        }
    }

    pub(super) fn tell_connected(&self, is_connected: bool) {
        if let Some(figures) = self.shared.figures.get() {
            figures.set_connected(is_connected);
        }
    }

    pub(super) fn tell_started(&self, handle: JobHandle, started_ns: MonotonicNs) {
        let Some(figures) = self.shared.figures.get() else { return };
        let Some(job) = self.jobs.get(handle) else { return };
        if let Some(task) = job.task {
            figures.on_started(task, started_ns.saturating_sub(job.received_ns) as f64 / 1e9);
        }
    }

    pub(super) fn tell_ended(&self, handle: JobHandle, outcome: Outcome, run_s: f64) {
        let Some(figures) = self.shared.figures.get() else { return };
        if let Some(task) = self.jobs.get(handle).and_then(|job| job.task) {
            figures.on_ended(task, outcome, run_s);
        }
    }

    pub(super) fn tell_end(&self) {
        if let Some(figures) = self.shared.figures.get() {
            figures.on_end();
        }
    }
}
