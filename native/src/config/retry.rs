//! Whether, when and how often to try again.

/// How long to wait between attempts (`broker_connection_*`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// Whether to try again at all after a lost connection.
    pub retry: bool,
    /// Whether to try again when the first connection fails.
    pub retry_on_startup: bool,
    /// Attempts before giving up; `None` for ever.
    pub max_retries: Option<u32>,
    /// First wait.
    pub interval_start_s: f64,
    /// Added for each further attempt.
    pub interval_step_s: f64,
    /// Longest wait.
    pub interval_max_s: f64,
}

impl RetryPolicy {
    /// Seconds to wait after a failure that this many failures in a row preceded; `None` when no attempt is left.
    #[must_use]
    pub fn delay_s(&self, failures: u32) -> Option<f64> {
        if self.max_retries.is_some_and(|most| failures >= most) {
            return None;
        }
        let delay_s = self.interval_start_s + self.interval_step_s * f64::from(failures);
        Some(delay_s.min(self.interval_max_s).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(max_retries: Option<u32>) -> RetryPolicy {
        RetryPolicy {
            retry: true,
            retry_on_startup: true,
            max_retries,
            interval_start_s: 2.0,
            interval_step_s: 1.5,
            interval_max_s: 5.0,
        }
    }

    #[test]
    fn delays_grow_by_the_step_to_the_maximum() {
        let delays: Vec<_> = (0..4).map(|failures| policy(None).delay_s(failures)).collect();
        assert_eq!(delays, [Some(2.0), Some(3.5), Some(5.0), Some(5.0)]);
        assert_eq!(policy(None).delay_s(u32::MAX), Some(5.0));
    }

    #[test]
    fn no_delay_follows_the_last_attempt() {
        assert_eq!(policy(Some(2)).delay_s(1), Some(3.5));
        assert_eq!(policy(Some(2)).delay_s(2), None);
        assert_eq!(policy(Some(0)).delay_s(0), None);
    }

    #[test]
    fn a_delay_is_never_negative() {
        assert_eq!(RetryPolicy { interval_start_s: -3.0, ..policy(None) }.delay_s(0), Some(0.0));
        assert_eq!(RetryPolicy { interval_max_s: -1.0, ..policy(None) }.delay_s(0), Some(0.0));
    }
}
