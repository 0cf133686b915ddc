//! When to try again after a lost or refused connection.

use crate::config::RetryPolicy;
use crate::error::{Error, ErrorKind};

/// Longest wait while Sentinel chooses a new primary: it is to be used at once.
const SENTINEL_WAIT_S: f64 = 0.5;

/// Counts attempts against the user's policy.
#[derive(Debug)]
pub(super) struct Retry {
    policy: RetryPolicy,
    failures: u32,
    ever_connected: bool,
    has_sentinel: bool,
    /// With Sentinel: how long was waited of what the policy wants.
    waited_s: f64,
}

impl Retry {
    pub(super) fn new(policy: RetryPolicy, has_sentinel: bool) -> Self {
        Self { policy, failures: 0, ever_connected: false, has_sentinel, waited_s: 0.0 }
    }

    /// The connection works. True if it is not the first one.
    pub(super) fn on_connected(&mut self) -> bool {
        self.failures = 0;
        self.waited_s = 0.0;
        std::mem::replace(&mut self.ever_connected, true)
    }

    /// Seconds until the next attempt; `None` to give up. A wrong password is tried again too, as stock
    /// workers do: it may be an operator at work. A wrong configuration of ours is not.
    pub(super) fn on_failure(&mut self, error: &Error) -> Option<f64> {
        let wanted = match self.ever_connected {
            true => self.policy.retry,
            false => self.policy.retry_on_startup && error.kind() != ErrorKind::Config,
        };
        if !wanted {
            return None;
        }
        let wait_s = self.policy.delay_s(self.failures)?;
        if self.has_sentinel && wait_s > SENTINEL_WAIT_S {
            // Several short waits take the place of a long one, and count as one.
            self.waited_s += SENTINEL_WAIT_S;
            if self.waited_s >= wait_s {
                self.waited_s = 0.0;
                self.failures += 1;
            }
            return Some(SENTINEL_WAIT_S);
        }
        self.failures += 1;
        Some(wait_s)
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
        let mut retry = Retry::new(policy(), false);
        let error = Error::new(ErrorKind::Connection, "refused");
        let waits: Vec<_> = (0..5).map(|_| retry.on_failure(&error)).collect();
        assert_eq!(waits, [Some(2.0), Some(4.0), Some(5.0), Some(5.0), None]);
    }

    #[test]
    fn a_wrong_password_is_tried_again_and_a_wrong_setting_is_not() {
        let mut retry = Retry::new(policy(), false);
        assert_eq!(retry.on_failure(&Error::new(ErrorKind::Authentication, "WRONGPASS")), Some(2.0));
        assert_eq!(retry.on_failure(&Error::new(ErrorKind::Config, "database: out of range")), None);
    }

    #[test]
    fn a_connection_that_works_starts_the_count_anew() {
        let mut retry = Retry::new(policy(), false);
        let error = Error::new(ErrorKind::Connection, "refused");
        assert_eq!(retry.on_failure(&error), Some(2.0));
        assert!(!retry.on_connected());
        assert_eq!(retry.on_failure(&error), Some(2.0));
        assert!(retry.on_connected());
    }

    #[test]
    fn with_sentinel_waits_are_short_and_last_as_long() {
        let mut retry = Retry::new(policy(), true);
        let error = Error::new(ErrorKind::Connection, "refused");
        let mut waited_s = 0.0;
        while let Some(wait_s) = retry.on_failure(&error) {
            assert_eq!(wait_s, 0.5);
            waited_s += wait_s;
        }
        assert_eq!(waited_s, 2.0 + 4.0 + 5.0 + 5.0);
    }
}
