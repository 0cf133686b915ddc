//! How the brokers under test connect again.

use pyworker_native::config::RetryPolicy;

/// Soon and for ever.
pub fn soon() -> RetryPolicy {
    policy(0.02, 0.02, 0.1)
}

/// After a minute, which no test waits for: only what is to happen at once can happen.
pub fn after_a_minute() -> RetryPolicy {
    policy(60.0, 0.0, 60.0)
}

fn policy(interval_start_s: f64, interval_step_s: f64, interval_max_s: f64) -> RetryPolicy {
    RetryPolicy {
        retry: true,
        retry_on_startup: true,
        max_retries: None,
        interval_start_s,
        interval_step_s,
        interval_max_s,
    }
}
