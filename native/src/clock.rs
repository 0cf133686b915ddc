//! Time, injected, so that tests decide what time it is.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A point on the monotonic clock in nanoseconds. Comparable between the processes of one machine.
pub type MonotonicNs = u64;

/// A source of time.
pub trait Clock: Send + Sync + Debug {
    /// Nanoseconds of `CLOCK_MONOTONIC`; never goes back.
    fn monotonic_ns(&self) -> MonotonicNs;

    /// Seconds since the Unix epoch by the wall clock, which may jump.
    fn wall_s(&self) -> f64;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn monotonic_ns(&self) -> MonotonicNs {
        monotonic_ns()
    }

    fn wall_s(&self) -> f64 {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds. Also used by children, which have no `Clock`.
#[must_use]
#[expect(unsafe_code, reason = "clock_gettime has no safe wrapper that yields raw nanoseconds")]
pub fn monotonic_ns() -> MonotonicNs {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, writable timespec; CLOCK_MONOTONIC exists on every supported system.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    (time.tv_sec as u64) * 1_000_000_000 + time.tv_nsec as u64
}

/// A clock that stands still until a test moves it.
#[derive(Debug, Clone)]
pub struct ManualClock {
    now_ns: Arc<AtomicU64>,
    wall_start_s: f64,
}

impl ManualClock {
    /// A clock whose monotonic time is one second and whose wall time is `wall_start_s`.
    #[must_use]
    pub fn new(wall_start_s: f64) -> Self {
        Self { now_ns: Arc::new(AtomicU64::new(1_000_000_000)), wall_start_s }
    }

    /// Moves both clocks on.
    pub fn advance(&self, by: Duration) {
        self.now_ns.fetch_add(by.as_nanos() as u64, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn monotonic_ns(&self) -> MonotonicNs {
        self.now_ns.load(Ordering::SeqCst)
    }

    fn wall_s(&self) -> f64 {
        self.wall_start_s + (self.now_ns.load(Ordering::SeqCst) - 1_000_000_000) as f64 / 1e9
    }
}
