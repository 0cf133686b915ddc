//! Time limits and termination: forced ends of running jobs.

use std::cmp::Ordering;

use crate::clock::MonotonicNs;
use crate::engine::jobs::{JobHandle, Place};
use crate::engine::node::Node;
use crate::engine::notice::{Notice, Reason};
use crate::pool::supervisor::signal;

/// Between TERM and KILL of a child whose hard limit passed.
const KILL_DELAY_S: f64 = 0.1;
/// How long Python's handling of a hard limit may put off the end of the child.
const VERDICT_WAIT_S: f64 = 5.0;

/// What happens at a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LimitKind {
    /// SIGUSR1 raises in the task.
    Soft,
    /// Python is told, then the child is ended.
    Hard,
    /// Python was slow: the child is ended now.
    Term,
    /// The child did not end by itself.
    Kill,
}

/// A deadline of a running job. The greatest is the earliest, as the heap wants it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limit {
    deadline_ns: MonotonicNs,
    seconds: f64,
    job: JobHandle,
    kind: LimitKind,
}

impl Limit {
    /// A limit of a job that began at `from_ns`.
    #[must_use]
    pub(super) fn new(from_ns: MonotonicNs, seconds: f64, job: JobHandle, kind: LimitKind) -> Self {
        Self { deadline_ns: from_ns.saturating_add((seconds * 1e9) as u64), seconds, job, kind }
    }

    /// When.
    #[must_use]
    pub(super) fn deadline_ns(&self) -> MonotonicNs {
        self.deadline_ns
    }
}

impl Eq for Limit {}

impl Ord for Limit {
    fn cmp(&self, other: &Self) -> Ordering {
        other.deadline_ns.cmp(&self.deadline_ns).then(other.job.cmp(&self.job))
    }
}

impl PartialOrd for Limit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Node {
    /// Acts on the deadlines that have passed.
    pub(super) fn check_limits(&mut self) {
        let now_ns = self.clock.monotonic_ns();
        while let Some(limit) = self.limits.peek().copied() {
            // The jobs of passed entries are mostly gone: the table knows, a search does not.
            let stale = self.jobs.get(limit.job).is_none_or(|job| !job.is_running());
            if !stale && limit.deadline_ns > now_ns {
                return;
            }
            self.limits.pop();
            if !stale {
                self.on_limit(limit);
            }
        }
    }

    fn on_limit(&mut self, limit: Limit) {
        let Some(place) = self.jobs.get(limit.job).and_then(|job| job.place) else { return };
        let Some(child) = &self.places[place.child as usize].child else { return };
        let pid = child.pid;
        match limit.kind {
            LimitKind::Soft => {
                if child.link.mark_soft_limit(place.sequence) {
                    self.counters.soft_timeouts += 1;
                    signal(pid, libc::SIGUSR1);
                    self.announce(limit.job, Reason::SoftTimeout, pid, 0, limit.seconds);
                }
            }
            LimitKind::Hard => {
                if child.link.doom(place.sequence) {
                    self.counters.hard_timeouts += 1;
                    if self.jobs.get(limit.job).is_some_and(|job| job.announced) {
                        // A terminate was survived; Python has told the task's end already.
                        return self.end_child_of(limit.job);
                    }
                    // As in Celery, the failure and its hooks come first and the end of the child after.
                    self.announce(limit.job, Reason::HardTimeout, pid, 0, limit.seconds);
                    if let Some(job) = self.jobs.get_mut(limit.job) {
                        job.ends_on_verdict = true;
                    }
                    let now_ns = self.clock.monotonic_ns();
                    self.limits.push(Limit::new(now_ns, VERDICT_WAIT_S, limit.job, LimitKind::Term));
                }
            }
            LimitKind::Term => self.end_child_of(limit.job),
            LimitKind::Kill => {
                signal(pid, libc::SIGKILL);
            }
        }
    }

    /// Ends the child that runs a job: TERM, and KILL if that does not do it.
    pub(super) fn end_child_of(&mut self, handle: JobHandle) {
        // The place of a job that is over may have another child.
        let running = self.jobs.get(handle).filter(|job| job.is_running());
        let Some(place) = running.and_then(|job| job.place) else { return };
        self.signal_doomed(place, libc::SIGTERM);
        let now_ns = self.clock.monotonic_ns();
        self.limits.push(Limit::new(now_ns, KILL_DELAY_S, handle, LimitKind::Kill));
    }

    /// Sends a doomed job's signal, and lets its child know that it was sent.
    fn signal_doomed(&self, place: Place, number: i32) {
        if let Some(child) = &self.places[place.child as usize].child {
            signal(child.pid, number);
            child.link.signalled(place.sequence);
        }
    }

    /// Tells Python of a forced end, or of a start or a soft limit, while the job still runs.
    pub(super) fn announce(&mut self, handle: JobHandle, reason: Reason, pid: i32, status: i32, seconds: f64) {
        let Some(job) = self.jobs.get_mut(handle) else { return };
        let informs = matches!(reason, Reason::SoftTimeout | Reason::Accepted);
        let notice = Self::delivery_notice(job, if informs { 0 } else { handle }, reason);
        if !informs {
            job.announced = true;
            job.awaits_verdict = true;
        }
        let index = job.place.map_or(0, |place| place.child);
        let queue = self.queue_name(notice.index as u16).to_owned();
        self.notices.push(Notice { queue, index, pid, status, seconds, ..notice });
    }

    /// Signals the children that run these tasks; returns which ran.
    pub(super) fn terminate(&mut self, ids: &[String], number: i32) -> Vec<String> {
        let running: Vec<(JobHandle, String)> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.is_running() && !job.announced && ids.iter().any(|id| id == job.id()))
            .map(|(handle, job)| (handle, job.id().to_owned()))
            .collect();
        let mut signalled = Vec::new();
        for (handle, id) in running {
            let Some(place) = self.jobs.get(handle).and_then(|job| job.place) else { continue };
            let Some(child) = &self.places[place.child as usize].child else { continue };
            let pid = child.pid;
            if child.link.doom(place.sequence) {
                self.counters.terminated += 1;
                self.announce(handle, Reason::Terminated, pid, number, 0.0);
                self.signal_doomed(place, number);
                signalled.push(id);
            }
        }
        signalled
    }
}
