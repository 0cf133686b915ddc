//! Waiting awake for what is about to happen.
//!
//! A sleeping thread on an idle core needs 50 to 100 us to wake, which is as long as a short task takes with all
//! that belongs to it. So when an answer is due within that time the engine, or a client, looks for it without
//! sleeping, giving its core to whoever wants it. Where that never pays (a server 2 ms away, long tasks) it soon stops
//! trying.

use crate::clock::monotonic_ns;
use crate::error::Result;

/// Longest wait without sleep.
const WATCH_NS: u64 = 200_000;
/// After this many disappointments in a row the occasions to try again become no rarer.
const MISSES_MAX: u32 = 6;

/// Decides whether waiting awake is worth it.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    misses: u32,
    /// Occasions to let pass before the next attempt.
    skips: u32,
}

impl Watch {
    /// Waits awake until `has_come` says so; false when it took too long, or when experience speaks against waiting.
    pub(crate) fn until(&mut self, mut has_come: impl FnMut() -> Result<bool>) -> Result<bool> {
        let Some(limit_ns) = self.begin() else { return Ok(false) };
        let begun_ns = monotonic_ns();
        let mut seen = false;
        while !seen && monotonic_ns() - begun_ns < limit_ns {
            seen = has_come()?;
            if !seen {
                std::thread::yield_now();
            }
        }
        self.ended(seen);
        Ok(seen)
    }

    /// How long to wait awake, `None` when experience speaks against it.
    fn begin(&mut self) -> Option<u64> {
        if self.skips > 0 {
            self.skips -= 1;
            return None;
        }
        Some(WATCH_NS)
    }

    /// What came of it.
    fn ended(&mut self, seen: bool) {
        self.misses = if seen { 0 } else { (self.misses + 1).min(MISSES_MAX) };
        self.skips = (1 << self.misses) - 1;
    }

    /// Whether a task that usually runs this long ends while we watch; an unknown one may.
    pub(crate) fn covers(expected_ns: u64) -> bool {
        expected_ns < WATCH_NS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disappointments_make_attempts_rarer_and_a_success_restores_them() {
        let mut watch = Watch::default();
        let mut attempts = 0;
        for _ in 0..1000 {
            if watch.begin().is_some() {
                attempts += 1;
                watch.ended(false);
            }
        }
        assert!(attempts < 30, "{attempts} attempts");
        while watch.begin().is_none() {}
        watch.ended(true);
        assert_eq!(watch.begin(), Some(WATCH_NS));
    }
}
