//! The figures: written by the engine's thread, read by the probes' thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::MonotonicNs;
use crate::pool::frames::Outcome;

/// Upper bounds of the histograms' buckets, in seconds.
pub const BUCKETS_S: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0];
/// Outcomes that are told apart, in the order of [`TaskFigures::ended`].
pub const OUTCOMES: [&str; 4] = ["succeeded", "failed", "retried", "other"];
/// A turn of the engine's loop that lasts longer means that it hangs.
const TURN_MAX_NS: u64 = 30_000_000_000;
/// The counters are copied at most this often.
const COPY_INTERVAL_NS: u64 = 200_000_000;

/// How often something took how long. One writer, so a plain load and store adds.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS_S.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Adds one observation.
    pub fn observe(&self, seconds: f64) {
        let seconds = seconds.max(0.0);
        add(&self.buckets[BUCKETS_S.partition_point(|bound| *bound < seconds)], 1);
        add(&self.sum_us, (seconds * 1e6) as u64);
    }

    /// Counts by bucket, the last without a bound, and the sum in seconds.
    #[must_use]
    pub fn read(&self) -> ([u64; BUCKETS_S.len() + 1], f64) {
        let counts = std::array::from_fn(|index| self.buckets[index].load(Ordering::Relaxed));
        (counts, self.sum_us.load(Ordering::Relaxed) as f64 / 1e6)
    }
}

fn add(cell: &AtomicU64, number: u64) {
    cell.store(cell.load(Ordering::Relaxed) + number, Ordering::Relaxed);
}

/// What is counted of one task.
#[derive(Debug, Default)]
pub struct TaskFigures {
    /// Its name.
    pub name: String,
    /// From the message's arrival at this node, or its time, to its start.
    pub wait: Histogram,
    /// From its start to its end.
    pub run: Histogram,
    /// Ends by outcome.
    pub ended: [AtomicU64; OUTCOMES.len()],
}

/// A figure that somebody else measures, such as a queue's depth.
#[derive(Debug, Clone, PartialEq)]
pub struct Gauge {
    /// Its name without the prefix.
    pub name: String,
    /// Name and value of its label.
    pub label: (String, String),
    /// Its value.
    pub value: f64,
}

/// Everything that the probes tell.
#[derive(Debug, Default)]
pub struct Figures {
    /// By the engine's task index.
    pub tasks: Vec<TaskFigures>,
    is_consuming: AtomicBool,
    is_connected: AtomicBool,
    has_children: AtomicBool,
    is_ended: AtomicBool,
    /// When the present turn began; 0 between turns.
    turn_began_ns: AtomicU64,
    copied_ns: AtomicU64,
    counters: Mutex<Vec<(String, u64)>>,
    gauges: Mutex<Vec<Gauge>>,
}

impl Figures {
    /// Figures of these tasks.
    #[must_use]
    pub fn new(task_names: impl Iterator<Item = String>) -> Self {
        let tasks = task_names.map(|name| TaskFigures { name, ..TaskFigures::default() }).collect();
        Self { tasks, ..Self::default() }
    }

    // -- the engine's side

    /// The broker is reached, or not any more.
    pub fn set_connected(&self, is_connected: bool) {
        self.is_connected.store(is_connected, Ordering::Relaxed);
    }

    /// A turn begins.
    pub fn on_turn(&self, now_ns: MonotonicNs) {
        self.turn_began_ns.store(now_ns.max(1), Ordering::Relaxed);
    }

    /// A turn is over; `sleeps` says whether the next may be long in coming. Whether the counters are to be copied now.
    #[must_use]
    pub fn on_turn_over(&self, now_ns: MonotonicNs, sleeps: bool, is_consuming: bool, has_children: bool) -> bool {
        self.turn_began_ns.store(0, Ordering::Relaxed);
        self.is_consuming.store(is_consuming, Ordering::Relaxed);
        self.has_children.store(has_children, Ordering::Relaxed);
        let is_due = now_ns.saturating_sub(self.copied_ns.load(Ordering::Relaxed)) >= COPY_INTERVAL_NS;
        if is_due || sleeps {
            self.copied_ns.store(now_ns, Ordering::Relaxed);
        }
        is_due || sleeps
    }

    /// Leaves a copy of the counters.
    pub fn copy(&self, counters: Vec<(String, u64)>) {
        *lock(&self.counters) = counters;
    }

    /// A task started after waiting for so long.
    pub fn on_started(&self, task: u16, wait_s: f64) {
        if let Some(task) = self.tasks.get(usize::from(task)) {
            task.wait.observe(wait_s);
        }
    }

    /// A task ended.
    pub fn on_ended(&self, task: u16, outcome: Outcome, run_s: f64) {
        let Some(task) = self.tasks.get(usize::from(task)) else { return };
        task.run.observe(run_s);
        let index = match outcome {
            Outcome::Success => 0,
            Outcome::Failure | Outcome::InternalError => 1,
            Outcome::Retry => 2,
            Outcome::Ignored | Outcome::Rejected | Outcome::RejectedRequeue | Outcome::Undecodable => 3,
        };
        add(&task.ended[index], 1);
    }

    /// The engine's thread is over.
    pub fn on_end(&self) {
        self.is_ended.store(true, Ordering::Relaxed);
    }

    /// Replaces what others measure.
    pub fn set_gauges(&self, gauges: Vec<Gauge>) {
        *lock(&self.gauges) = gauges;
    }

    // -- the probes' side

    /// Whether the engine's loop moves.
    #[must_use]
    pub fn is_alive(&self, now_ns: MonotonicNs) -> bool {
        let began_ns = self.turn_began_ns.load(Ordering::Relaxed);
        !self.is_ended.load(Ordering::Relaxed) && (began_ns == 0 || now_ns.saturating_sub(began_ns) < TURN_MAX_NS)
    }

    /// Why the node does not consume, `None` if it does.
    #[must_use]
    pub fn unready(&self, now_ns: MonotonicNs) -> Option<&'static str> {
        let causes = [
            (!self.is_alive(now_ns), "the engine does not move"),
            (!self.is_connected.load(Ordering::Relaxed), "not connected to the broker"),
            (!self.is_consuming.load(Ordering::Relaxed), "stopping"),
            (!self.has_children.load(Ordering::Relaxed), "no child process"),
        ];
        causes.into_iter().find_map(|(is_so, cause)| is_so.then_some(cause))
    }

    /// The counters as copied last.
    #[must_use]
    pub fn counters(&self) -> Vec<(String, u64)> {
        lock(&self.counters).clone()
    }

    /// What others measured last.
    #[must_use]
    pub fn gauges(&self) -> Vec<Gauge> {
        lock(&self.gauges).clone()
    }
}

/// The content is replaced whole, so that of a thread that panicked is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observations_fall_into_the_first_bucket_that_holds_them() {
        let histogram = Histogram::default();
        for seconds in [0.0, 0.001, 0.0011, 1e9] {
            histogram.observe(seconds);
        }
        let (counts, sum_s) = histogram.read();
        assert_eq!((counts[0], counts[1], counts[BUCKETS_S.len()]), (2, 1, 1));
        assert!(sum_s > 9e8);
    }

    #[test]
    fn a_node_is_ready_only_while_it_consumes() {
        let figures = Figures::new(std::iter::empty());
        assert_eq!(figures.unready(1), Some("not connected to the broker"));
        figures.set_connected(true);
        assert!(figures.on_turn_over(1, true, true, false));
        assert_eq!(figures.unready(1), Some("no child process"));
        assert!(!figures.on_turn_over(2, false, true, true));
        assert_eq!(figures.unready(2), None);
        let _ = figures.on_turn_over(3, false, false, true);
        assert_eq!(figures.unready(3), Some("stopping"));
    }

    #[test]
    fn a_long_turn_is_a_hang_and_a_long_sleep_is_none() {
        let figures = Figures::new(std::iter::empty());
        assert!(figures.is_alive(u64::MAX));
        figures.on_turn(1);
        assert!(figures.is_alive(1 + TURN_MAX_NS - 1));
        assert!(!figures.is_alive(1 + TURN_MAX_NS));
        let _ = figures.on_turn_over(2, true, true, true);
        assert!(figures.is_alive(u64::MAX));
        figures.on_end();
        assert!(!figures.is_alive(3));
    }
}
