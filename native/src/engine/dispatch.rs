//! From the ready queue to the children, and back when a child is slow.

use crate::delivery::DeliveryState;
use crate::engine::jobs::{JobHandle, Message, Place};
use crate::engine::node::Node;
use crate::pool::frames::{FLAG_REDELIVERED, FLAG_RESULT_TEXT, JobFrame};

/// Work that a link may hold beyond the job being run.
const LINK_WINDOW_NS: u64 = 4_000_000;
/// Most jobs in one link.
const LINK_JOBS_MAX: usize = 512;
/// What a job costs beside its measured run time.
const JOB_COST_NS: u64 = 10_000;
/// Assumed for a task that never ran.
const UNKNOWN_RUN_NS: u64 = LINK_WINDOW_NS;

impl Node {
    /// Hands over as much as the links should hold, then moves work from busy children to idle ones.
    pub(super) fn dispatch(&mut self) {
        self.fill_links();
        if self.ready.is_empty() && self.relieve() {
            self.fill_links();
        }
        for place in &mut self.places {
            if let Some(child) = &mut place.child {
                // A closed socket means that the child died; its process descriptor tells next.
                let _ = child.link.ring();
            }
        }
    }

    fn fill_links(&mut self) {
        while let Some(&handle) = self.ready.front() {
            let Some(index) = self.best_child() else { return };
            if self.is_stale(handle) {
                self.ready.pop_front();
                continue;
            }
            if !self.hand_over(handle, index) {
                return;
            }
            self.ready.pop_front();
        }
    }

    /// The child that should get the next job: the one with the least work, if it has room.
    pub(super) fn best_child(&self) -> Option<usize> {
        let strict = self.config.prefetch.strict;
        let limit = self.config.pool.max_tasks_per_child.map(u64::from);
        let mut best: Option<(u64, usize, usize)> = None;
        for (index, place) in self.places.iter().enumerate() {
            let Some(child) = &place.child else { continue };
            let outstanding = child.link.outstanding();
            let expected_ns = child.link.expected_ns();
            let has_room = outstanding == 0
                || (!strict && outstanding < LINK_JOBS_MAX && (outstanding < 2 || expected_ns < LINK_WINDOW_NS));
            let may_take = limit.is_none_or(|limit| child.started_tasks + (child.link.unstarted() as u64) < limit);
            if !child.is_up || child.retiring || !has_room || !may_take {
                continue;
            }
            if best.is_none_or(|(least, count, _)| (expected_ns, outstanding) < (least, count)) {
                best = Some((expected_ns, outstanding, index));
            }
        }
        best.map(|(_, _, index)| index)
    }

    fn hand_over(&mut self, handle: JobHandle, index: usize) -> bool {
        let Some(job) = self.jobs.get_mut(handle) else { return true };
        let (Some(task), Message::Envelope(envelope)) = (job.task, &job.message) else { return true };
        let Some(child) = &mut self.places[index].child else { return false };
        let frame = JobFrame {
            sequence: 0,
            task_index: u32::from(task),
            flags: if job.redelivered() { FLAG_REDELIVERED } else { 0 }
                | if self.events.wants(job.task) { FLAG_RESULT_TEXT } else { 0 },
            headers: envelope.headers(),
            properties: envelope.properties(),
            body: envelope.body(),
            content_type: envelope.content_type().as_bytes(),
            content_encoding: envelope.content_encoding().as_bytes(),
        };
        let run_ns = match self.expected_ns[usize::from(task)] {
            0 => UNKNOWN_RUN_NS,
            run_ns => run_ns + JOB_COST_NS,
        };
        match child.link.hand_over(&frame, handle, run_ns) {
            Ok(true) => {
                let sequence = child.link.handed().last().map_or(0, |handed| handed.sequence);
                job.place = Some(Place { child: index as u32, sequence });
                job.state = DeliveryState::HandedOver;
                self.counters.handed_over += 1;
                true
            }
            // No room, or a broken link whose child is about to be replaced.
            Ok(false) | Err(_) => false,
        }
    }

    /// Takes work back from behind running jobs while another child has nothing; true if any came.
    fn relieve(&mut self) -> bool {
        let idle = self.places.iter().any(|place| {
            place.child.as_ref().is_some_and(|child| child.is_up && !child.retiring && child.link.outstanding() == 0)
        });
        if !idle {
            return false;
        }
        let unstarted = |place: &crate::engine::children::Place| {
            place.child.as_ref().map_or(0, |child| {
                // A job that the child can start at once is not waiting behind anything.
                if child.link.outstanding() == child.link.unstarted() {
                    child.link.unstarted().saturating_sub(1)
                } else {
                    child.link.unstarted()
                }
            })
        };
        let Some((index, count)) = self.places.iter().map(unstarted).enumerate().max_by_key(|(_, count)| *count) else {
            return false;
        };
        self.take_back(index, count.div_ceil(2)) > 0
    }

    /// Takes up to `count` unstarted jobs back from a child to the front of the ready queue.
    pub(super) fn take_back(&mut self, index: usize, count: usize) -> usize {
        let mut taken = 0;
        while taken < count {
            let Some(child) = &mut self.places[index].child else { break };
            let Some(handed) = child.link.take_back() else { break };
            self.return_to_ready(handed.job);
            taken += 1;
        }
        self.counters.taken_back += taken as u64;
        taken
    }

    /// Takes all unstarted jobs back from a child.
    pub(super) fn take_back_all(&mut self, index: usize) {
        self.take_back(index, usize::MAX);
    }

    /// Puts an unstarted job in front of the ready queue.
    pub(super) fn return_to_ready(&mut self, handle: JobHandle) {
        if let Some(job) = self.jobs.get_mut(handle) {
            job.place = None;
            job.state = DeliveryState::Reserved;
            self.ready.push_front(handle);
        }
    }
}
