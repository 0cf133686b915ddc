//! The node's way down.
//!
//! ```text
//!  Running --stop--> Draining --(nothing runs, or deadline)--> EndingChildren --> Flushing --> Ended
//! ```

use std::sync::mpsc::Sender;

use crate::broker::Settlement;
use crate::clock::MonotonicNs;
use crate::engine::node::Node;
use crate::pool::supervisor::signal;

/// How long children get to end by themselves.
const CHILDREN_END_NS: u64 = 5_000_000_000;
/// How long nothing may move while acks and results are on their way to their servers.
const FLUSH_NS: u64 = 10_000_000_000;

/// Where the node is on its way down.
#[derive(Debug)]
pub(super) enum Lifecycle {
    /// At work.
    Running,
    /// Waits for running tasks.
    Draining {
        /// Until when; `None` for ever.
        until_ns: Option<MonotonicNs>,
        /// Gets the number of tasks that still ran.
        reply: Sender<usize>,
    },
    /// Waits for the children to end.
    EndingChildren {
        /// When those that have not are killed.
        until_ns: MonotonicNs,
        /// Tasks that still ran.
        running: usize,
        /// Gets that number.
        reply: Sender<usize>,
    },
    /// Waits for acks and results to be confirmed.
    Flushing {
        /// When that is given up; put off while there is progress.
        until_ns: MonotonicNs,
        /// What is on its way.
        left: usize,
        /// Tasks that still ran.
        running: usize,
        /// Gets that number.
        reply: Sender<usize>,
    },
    /// Over.
    Ended,
}

impl Lifecycle {
    /// Whether the loop is over.
    #[must_use]
    pub(super) fn is_ended(&self) -> bool {
        matches!(self, Lifecycle::Ended)
    }

    /// Whether dead children are no longer replaced.
    #[must_use]
    pub(super) fn ends_children(&self) -> bool {
        matches!(self, Lifecycle::EndingChildren { .. } | Lifecycle::Flushing { .. } | Lifecycle::Ended)
    }

    /// When something must happen although nothing else does.
    #[must_use]
    pub(super) fn deadline_ns(&self) -> Option<MonotonicNs> {
        match self {
            Lifecycle::Draining { until_ns, .. } => *until_ns,
            Lifecycle::EndingChildren { until_ns, .. } | Lifecycle::Flushing { until_ns, .. } => Some(*until_ns),
            Lifecycle::Running | Lifecycle::Ended => None,
        }
    }
}

impl Node {
    /// Fetches nothing more and hands back everything that has not started.
    pub(super) fn stop_consuming(&mut self) {
        if !self.consuming {
            return;
        }
        self.consuming = false;
        for index in 0..self.places.len() {
            self.take_back_all(index);
        }
        // The last goes back first, so that the queue's head has them in their old order.
        while let Some(handle) = self.rates.pop_youngest().or_else(|| self.ready.pop_back()) {
            self.settle(handle, Some(Settlement::Release));
            self.jobs.remove(handle);
        }
        self.scheduled.clear();
        for tag in self.eta.drain() {
            self.settlements.push((tag, Settlement::Release));
        }
    }

    /// Begins the way down.
    pub(super) fn stop(&mut self, deadline_s: Option<f64>, reply: Sender<usize>) {
        self.stop_consuming();
        let now_ns = self.clock.monotonic_ns();
        let until_ns = deadline_s.map(|seconds| now_ns + (seconds.max(0.0) * 1e9) as u64);
        match &mut self.lifecycle {
            Lifecycle::Running => self.lifecycle = Lifecycle::Draining { until_ns, reply },
            // Asked again, sooner: the first caller's answer is dropped, it asked for the same thing.
            Lifecycle::Draining { until_ns: old_ns, reply: old } => (*old_ns, *old) = (until_ns, reply),
            Lifecycle::EndingChildren { reply: old, .. } | Lifecycle::Flushing { reply: old, .. } => *old = reply,
            Lifecycle::Ended => {
                let _ = reply.send(0);
            }
        }
    }

    /// Takes the next step down if its time has come.
    pub(super) fn advance_lifecycle(&mut self) {
        let now_ns = self.clock.monotonic_ns();
        match std::mem::replace(&mut self.lifecycle, Lifecycle::Ended) {
            Lifecycle::Draining { until_ns, reply } => {
                let running = self.jobs.iter().filter(|(_, job)| job.place.is_some() && job.end.is_none()).count();
                if running > 0 && until_ns.is_none_or(|until_ns| now_ns < until_ns) {
                    self.lifecycle = Lifecycle::Draining { until_ns, reply };
                    return;
                }
                for place in &mut self.places {
                    place.respawn_at_ns = None;
                    if let Some(child) = &mut place.child {
                        let _ = child.link.shut_down();
                        if running > 0 && child.link.outstanding() > 0 {
                            signal(child.pid, libc::SIGKILL);
                        }
                    }
                }
                self.lifecycle = Lifecycle::EndingChildren { until_ns: now_ns + CHILDREN_END_NS, running, reply };
                self.advance_lifecycle();
            }
            Lifecycle::EndingChildren { until_ns, running, reply } => {
                if self.places.iter().any(|place| place.child.is_some()) {
                    if now_ns < until_ns {
                        self.lifecycle = Lifecycle::EndingChildren { until_ns, running, reply };
                        return;
                    }
                    for index in 0..self.places.len() {
                        if let Some(child) = &self.places[index].child {
                            signal(child.pid, libc::SIGKILL);
                        }
                    }
                    self.lifecycle = Lifecycle::EndingChildren { until_ns: now_ns + CHILDREN_END_NS, running, reply };
                    return;
                }
                let until_ns = now_ns + FLUSH_NS;
                self.lifecycle = Lifecycle::Flushing { until_ns, left: usize::MAX, running, reply };
                self.advance_lifecycle();
            }
            Lifecycle::Flushing { until_ns, left, running, reply } => {
                let unsettled = self.settlements.len() + self.broker.pending_settlements();
                let unwritten = self.store.as_ref().map_or(0, |store| store.pending());
                let undecided = self.jobs.iter().filter(|(_, job)| job.awaits_verdict).count();
                let now_left = unsettled + unwritten + undecided;
                let until_ns = if now_left < left { now_ns + FLUSH_NS } else { until_ns };
                if now_left > 0 && now_ns < until_ns {
                    self.lifecycle = Lifecycle::Flushing { until_ns, left: now_left, running, reply };
                    return;
                }
                self.broker.stop(self.poll.registry());
                if let Some(store) = &mut self.store {
                    store.stop(self.poll.registry());
                }
                let _ = reply.send(running);
            }
            other @ (Lifecycle::Running | Lifecycle::Ended) => self.lifecycle = other,
        }
    }
}
