//! A private Redis for the tests of results and publishing. Each test binary uses a part of it.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod server;

use std::time::{Duration, Instant};

/// Longest time that anything a test waits for may take on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Calls `check` until it gives a value; fails the test after the deadline. Yields between calls: what is
/// waited for happens in another process.
pub fn wait_for<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(begin.elapsed() < DEADLINE, "waited {DEADLINE:?} for {what}");
        std::thread::yield_now();
    }
}
