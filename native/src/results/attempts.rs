//! When to try again, and when to stop trying: `celery.backends.base.Backend.retry_policy` as numbers.

use crate::config::RetryPolicy;

/// Counts failures in a row.
#[derive(Debug)]
pub(super) struct Attempts {
    policy: RetryPolicy,
    failures: u32,
}

impl Attempts {
    pub(super) fn new(policy: RetryPolicy) -> Self {
        Self { policy, failures: 0 }
    }

    /// It worked.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Whether the last attempt failed.
    pub(super) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// It failed: seconds until the next attempt, or `None` when the policy says to give up. Giving up
    /// begins the count anew, because what comes later deserves its own attempts.
    pub(super) fn fail(&mut self, is_first_connection: bool) -> Option<f64> {
        let policy = &self.policy;
        let allowed = policy.retry && (policy.retry_on_startup || !is_first_connection);
        let delay_s = if allowed { policy.delay_s(self.failures) } else { None };
        self.failures = if delay_s.is_some() { self.failures + 1 } else { 0 };
        delay_s
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            retry: true,
            retry_on_startup: true,
            max_retries: Some(3),
            interval_start_s: 0.0,
            interval_step_s: 0.7,
            interval_max_s: 1.0,
        }
    }

    #[test]
    fn waits_grow_to_their_bound_and_end() {
        let mut attempts = Attempts::new(policy());
        let waits: Vec<_> = (0..5).map(|_| attempts.fail(false)).collect();
        assert_eq!(waits, [Some(0.0), Some(0.7), Some(1.0), None, Some(0.0)]);
        attempts.reset();
        assert_eq!(attempts.fail(false), Some(0.0));
    }

    #[test]
    fn the_first_connection_may_have_a_rule_of_its_own() {
        let mut attempts = Attempts::new(RetryPolicy { retry_on_startup: false, ..policy() });
        assert_eq!(attempts.fail(true), None);
        assert_eq!(attempts.fail(false), Some(0.0));
        assert_eq!(Attempts::new(RetryPolicy { retry: false, ..policy() }).fail(false), None);
    }
}
