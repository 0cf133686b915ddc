//! Rate limits of tasks: a token bucket each, of capacity one, as Celery's.
//!
//! A limited task waits here between intake and the ready queue. While any waits, the reserve is Celery's
//! count and no more: what cannot start soon should be where other workers find it.

use std::collections::{BTreeMap, VecDeque};

use crate::clock::MonotonicNs;
use crate::engine::jobs::JobHandle;
use crate::engine::node::Node;

/// How much lateness of the engine a limit makes up for.
const CATCH_UP_S: f64 = 0.1;
/// High limits are served in steps of this length, not job by job.
const STEP_NS: u64 = 500_000;

/// One task's bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    per_s: f64,
    tokens: f64,
    filled_ns: MonotonicNs,
    waiting: VecDeque<JobHandle>,
    /// Jobs were waiting when it was filled last.
    was_wanted: bool,
}

impl Bucket {
    fn new(per_s: f64) -> Self {
        Self { per_s, tokens: 1.0, filled_ns: 0, waiting: VecDeque::new(), was_wanted: false }
    }

    /// Takes the first waiting job if a token is there.
    fn release(&mut self, now_ns: MonotonicNs) -> Option<JobHandle> {
        let gained = now_ns.saturating_sub(self.filled_ns) as f64 / 1e9 * self.per_s;
        // Tokens that came while jobs waited were only collected late: the engine's turns are longer than the
        // pauses of a high limit, and on a busy machine it wakes late for those of a low one. An idle bucket keeps one.
        let capacity = if self.was_wanted { 1.0 + self.per_s * CATCH_UP_S } else { 1.0 };
        self.tokens = (self.tokens + gained).min(capacity);
        self.filled_ns = now_ns;
        self.was_wanted = !self.waiting.is_empty();
        if self.tokens < 1.0 || self.waiting.is_empty() {
            return None;
        }
        self.tokens -= 1.0;
        self.waiting.pop_front()
    }

    /// When the next waiting job may start.
    fn deadline_ns(&self) -> Option<MonotonicNs> {
        if self.waiting.is_empty() {
            return None;
        }
        let missing = (1.0 - self.tokens).max(0.0);
        // One nanosecond more, so that rounding never wakes us just before the token is there.
        Some(self.filled_ns + ((missing / self.per_s * 1e9) as u64).max(STEP_NS) + 1)
    }
}

/// The buckets, by task index.
#[derive(Debug, Default)]
pub(super) struct RateLimits {
    buckets: BTreeMap<u16, Bucket>,
}

impl RateLimits {
    /// Buckets for the tasks that have a limit, in tasks per second.
    pub(super) fn new(limits: impl Iterator<Item = (u16, f64)>) -> Self {
        Self { buckets: limits.map(|(task, per_s)| (task, Bucket::new(per_s))).collect() }
    }

    /// Queues a job behind its task's limit; false if the task has none.
    pub(super) fn hold(&mut self, task: u16, job: JobHandle) -> bool {
        let bucket = self.buckets.get_mut(&task);
        bucket.map(|bucket| bucket.waiting.push_back(job)).is_some()
    }

    /// When something may start.
    pub(super) fn deadline_ns(&self) -> Option<MonotonicNs> {
        self.buckets.values().filter_map(Bucket::deadline_ns).min()
    }

    /// Whether more jobs wait than will start within the window.
    pub(super) fn holds_long(&self, window_s: f64) -> bool {
        self.buckets.values().any(|bucket| bucket.waiting.len() as f64 > bucket.per_s * window_s)
    }

    /// A task's limit.
    pub(super) fn limit(&self, task: u16) -> Option<f64> {
        self.buckets.get(&task).map(|bucket| bucket.per_s)
    }

    /// Gives a task another limit; returns the jobs that waited for the old one if there is none any more.
    pub(super) fn set(&mut self, task: u16, per_s: Option<f64>) -> Option<VecDeque<JobHandle>> {
        match per_s {
            None => Some(self.buckets.remove(&task).map(|bucket| bucket.waiting).unwrap_or_default()),
            Some(per_s) => {
                let bucket = self.buckets.entry(task).or_insert_with(|| Bucket::new(per_s));
                bucket.per_s = per_s;
                None
            }
        }
    }

    /// Takes out the youngest waiting job.
    pub(super) fn pop_youngest(&mut self) -> Option<JobHandle> {
        self.buckets.values_mut().filter(|bucket| !bucket.waiting.is_empty()).last()?.waiting.pop_back()
    }

    /// Takes out the jobs for which `leaves` says so.
    pub(super) fn remove_if(&mut self, mut leaves: impl FnMut(JobHandle) -> bool) -> Vec<JobHandle> {
        let mut removed = Vec::new();
        for bucket in self.buckets.values_mut() {
            bucket.waiting.retain(|job| {
                let goes = leaves(*job);
                if goes {
                    removed.push(*job);
                }
                !goes
            });
        }
        removed
    }
}

impl Node {
    /// Moves the limited jobs whose tokens have come to the ready queue.
    pub(super) fn release_limited(&mut self) {
        let now_ns = self.clock.monotonic_ns();
        for bucket in self.rates.buckets.values_mut() {
            while let Some(job) = bucket.release(now_ns) {
                self.ready.push_back(job);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_spaced_by_the_limit() {
        let mut limits = RateLimits::new([(3, 10.0)].into_iter());
        for job in 0..3 {
            assert!(limits.hold(3, job));
        }
        assert!(!limits.hold(4, 9));
        let start_ns = 5_000_000_000;
        let mut release = |now_ns| limits.buckets.get_mut(&3).and_then(|bucket| bucket.release(now_ns));
        assert_eq!(release(start_ns), Some(0));
        assert_eq!(release(start_ns + 50_000_000), None);
        assert_eq!(release(start_ns + 100_000_001), Some(1));
        assert_eq!(release(start_ns + 100_000_002), None);
        let deadline_ns = limits.deadline_ns().unwrap_or(0);
        assert!(deadline_ns > start_ns + 199_000_000 && deadline_ns < start_ns + 201_000_000);
    }

    /// How many jobs leave in a minute when the engine looks every `turn_ns`.
    fn released_in_a_minute(per_s: f64, turn_ns: u64) -> u64 {
        let mut bucket = Bucket::new(per_s);
        let start_ns = 7_000_000_000;
        let (mut now_ns, mut released) = (start_ns, 0);
        while now_ns <= start_ns + 60_000_000_000 {
            while bucket.waiting.len() < 64 {
                bucket.waiting.push_back(1);
            }
            while bucket.release(now_ns).is_some() {
                released += 1;
                bucket.waiting.push_back(1);
            }
            now_ns += turn_ns;
        }
        released
    }

    #[test]
    fn a_minute_holds_the_limit_within_one_percent_or_one_task() {
        for (per_s, turn_ns) in [
            (5.0, 250_000),
            (100.0 / 60.0, 3_000_000),
            (10_000.0, 250_000),
            (10_000.0, 1_700_000),
            (997.0, 33_000_000),
            (5.0, 7_300_000),
        ] {
            let (released, expected) = (released_in_a_minute(per_s, turn_ns) as f64, per_s * 60.0);
            assert!((released - expected).abs() <= (expected * 0.01).max(1.0), "{per_s}/s: {released} of {expected}");
        }
    }

    #[test]
    fn a_new_limit_counts_for_those_that_wait_and_none_frees_them() {
        let mut limits = RateLimits::default();
        assert_eq!(limits.set(2, Some(1.0)), None);
        assert!(limits.hold(2, 8) && limits.hold(2, 9));
        assert!(limits.holds_long(1.0) && !limits.holds_long(10.0));
        assert_eq!(limits.set(2, Some(50.0)), None);
        assert_eq!(limits.limit(2), Some(50.0));
        assert_eq!(limits.set(2, None).map(Vec::from), Some(vec![8, 9]));
        assert!(!limits.hold(2, 10));
    }

    #[test]
    fn removed_jobs_do_not_come_back() {
        let mut limits = RateLimits::new([(0, 1.0)].into_iter());
        limits.hold(0, 1);
        limits.hold(0, 2);
        assert_eq!(limits.remove_if(|job| job == 1), [1]);
        assert_eq!(limits.pop_youngest(), Some(2));
        assert!(!limits.holds_long(1.0));
    }
}
