//! When to try again after a lost or refused connection.

use crate::config::RetryPolicy;
use crate::error::{Error, ErrorKind};

/// Counts attempts against the user's policy.
#[derive(Debug)]
pub(super) struct Retry {
    policy: RetryPolicy,
    failures: u32,
    ever_connected: bool,
}

impl Retry {
    pub(super) fn new(policy: RetryPolicy) -> Self {
        Self { policy, failures: 0, ever_connected: false }
    }

    /// The connection works. True if it is not the first one.
    pub(super) fn on_connected(&mut self) -> bool {
        self.failures = 0;
        std::mem::replace(&mut self.ever_connected, true)
    }

    /// Seconds until the next attempt; `None` to give up. A wrong password is tried again too, as stock
    /// workers do: it may be an operator at work. A wrong configuration of ours is not.
    pub(super) fn on_failure(&mut self, error: &Error) -> Option<f64> {
        let wanted = match self.ever_connected {
            true => self.policy.retry,
            false => self.policy.retry_on_startup && error.kind() != ErrorKind::Config,
        };
        if !wanted || self.policy.max_retries.is_some_and(|most| self.failures >= most) {
            return None;
        }
        let steps = f64::from(self.failures);
        self.failures += 1;
        let wait_s = self.policy.interval_start_s + self.policy.interval_step_s * steps;
        Some(wait_s.min(self.policy.interval_max_s).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::error::ErrorKind;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            retry: true,
            retry_on_startup: true,
            max_retries: Some(4),
            interval_start_s: 2.0,
            interval_step_s: 2.0,
            interval_max_s: 5.0,
        }
    }

    #[test]
    fn waits_grow_to_the_maximum_and_end() {
        let mut retry = Retry::new(policy());
        let error = Error::new(ErrorKind::Connection, "refused");
        let waits: Vec<_> = (0..5).map(|_| retry.on_failure(&error)).collect();
        assert_eq!(waits, [Some(2.0), Some(4.0), Some(5.0), Some(5.0), None]);
    }

    #[test]
    fn a_wrong_password_is_tried_again_and_a_wrong_setting_is_not() {
        let mut retry = Retry::new(policy());
        assert_eq!(retry.on_failure(&Error::new(ErrorKind::Authentication, "WRONGPASS")), Some(2.0));
        assert_eq!(retry.on_failure(&Error::new(ErrorKind::Config, "database: out of range")), None);
    }

    #[test]
    fn a_connection_that_works_starts_the_count_anew() {
        let mut retry = Retry::new(policy());
        let error = Error::new(ErrorKind::Connection, "refused");
        assert_eq!(retry.on_failure(&error), Some(2.0));
        assert!(!retry.on_connected());
        assert_eq!(retry.on_failure(&error), Some(2.0));
        assert!(retry.on_connected());
    }
}
