//! The clock of a file that is not durable: the machine's, which a test can move ahead.
//!
//! How far is kept in the side file, so that all who share the file agree on the time, other processes included. Only
//! the wall clock moves: it says what is due and what has expired. The monotonic clock says who is alive, and moving
//! that would declare everybody dead.

use std::sync::Arc;

use super::SqliteAddress;
use super::bell::Bell;
use crate::clock::{Clock, MonotonicNs, SystemClock};

/// The clock that counts for a file: what is durable has no other than the machine's.
#[must_use]
pub fn clock_of(address: &SqliteAddress) -> Arc<dyn Clock> {
    if address.durable {
        return Arc::new(SystemClock);
    }
    match Bell::open(&address.path) {
        Ok(bell) if bell.is_shared => Arc::new(SideClock { bell }),
        _ => Arc::new(SystemClock),
    }
}

/// See the module's text.
#[derive(Debug)]
struct SideClock {
    bell: Bell,
}

impl Clock for SideClock {
    fn monotonic_ns(&self) -> MonotonicNs {
        SystemClock.monotonic_ns()
    }

    fn wall_s(&self) -> f64 {
        SystemClock.wall_s() + self.bell.clock_ahead().as_secs_f64()
    }
}
