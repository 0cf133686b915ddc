//! What the node counts; all only grow.

/// The engine's own counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counters {
    /// Messages taken from the broker.
    pub(super) received: u64,
    /// Of these, delivered before.
    pub(super) redelivered: u64,
    /// Jobs handed to children.
    pub(super) handed_over: u64,
    /// Jobs taken back from children unstarted.
    pub(super) taken_back: u64,
    /// Jobs claimed by children.
    pub(super) started: u64,
    /// Jobs that returned.
    pub(super) succeeded: u64,
    /// Jobs that raised.
    pub(super) failed: u64,
    /// Jobs that asked to be retried.
    pub(super) retried: u64,
    /// Other outcomes.
    pub(super) other_outcomes: u64,
    /// Deliveries put aside until their time.
    pub(super) scheduled: u64,
    /// Messages handed back because the reserve was too large.
    pub(super) handed_back: u64,
    /// Result writes queued.
    pub(super) result_writes: u64,
    /// Result writes refused.
    pub(super) result_failures: u64,
    /// Children that ended.
    pub(super) children_ended: u64,
    /// Children that died with a job.
    pub(super) children_lost: u64,
    /// Soft time limits.
    pub(super) soft_timeouts: u64,
    /// Hard time limits.
    pub(super) hard_timeouts: u64,
    /// Tasks terminated by request.
    pub(super) terminated: u64,
    /// Times the fork server was replaced.
    pub(super) fork_server_deaths: u64,
    /// Turns of the loop.
    pub(super) turns: u64,
}

impl Counters {
    /// Names and values.
    #[must_use]
    pub(super) fn named(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("received", self.received),
            ("redelivered", self.redelivered),
            ("handed_over", self.handed_over),
            ("taken_back", self.taken_back),
            ("started", self.started),
            ("succeeded", self.succeeded),
            ("failed", self.failed),
            ("retried", self.retried),
            ("other_outcomes", self.other_outcomes),
            ("scheduled", self.scheduled),
            ("handed_back", self.handed_back),
            ("result_writes", self.result_writes),
            ("result_failures", self.result_failures),
            ("children_ended", self.children_ended),
            ("children_lost", self.children_lost),
            ("soft_timeouts", self.soft_timeouts),
            ("hard_timeouts", self.hard_timeouts),
            ("terminated", self.terminated),
            ("fork_server_deaths", self.fork_server_deaths),
            ("turns", self.turns),
        ]
    }
}
