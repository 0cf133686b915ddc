//! When and where to try again after a lost or refused connection.

use crate::clock::MonotonicNs;
use crate::config::RetryPolicy;
use crate::config::amqp::{AmqpAddress, Failover};
use crate::error::{Error, ErrorKind};

/// A server that is away is looked for this often, whatever the policy's next announced attempt.
pub(super) const PROBE_INTERVAL_NS: MonotonicNs = 500_000_000;

/// Counts attempts against the user's policy and walks the list of servers.
#[derive(Debug)]
pub(super) struct Reconnect {
    policy: RetryPolicy,
    addresses: Vec<AmqpAddress>,
    next: usize,
    failures: u32,
    ever_connected: bool,
}

impl Reconnect {
    pub(super) fn new(policy: RetryPolicy, mut addresses: Vec<AmqpAddress>, failover: Failover) -> Self {
        if failover == Failover::Shuffle {
            shuffle(&mut addresses);
        }
        Self { policy, addresses, next: 0, failures: 0, ever_connected: false }
    }

    /// The server to try now.
    pub(super) fn address(&self) -> AmqpAddress {
        self.addresses[self.next % self.addresses.len()].clone()
    }

    /// The connection works. True if it is not the first one.
    pub(super) fn on_connected(&mut self) -> bool {
        self.failures = 0;
        std::mem::replace(&mut self.ever_connected, true)
    }

    /// Turns to the next server of the list.
    pub(super) fn turn(&mut self) {
        self.next = (self.next + 1) % self.addresses.len();
    }

    /// Seconds until the next announced attempt; `None` to give up. What the server refuses at the first connection (a
    /// queue that exists with other arguments) is not tried again, as stock workers do; a refused password is, and
    /// everything that has worked before.
    pub(super) fn on_failure(&mut self, error: &Error) -> Option<f64> {
        self.turn();
        let hopeless = !self.ever_connected && matches!(error.kind(), ErrorKind::Config | ErrorKind::ServerRefused);
        let wanted = if self.ever_connected { self.policy.retry } else { self.policy.retry_on_startup };
        if !wanted || hopeless {
            return None;
        }
        let wait_s = self.policy.delay_s(self.failures)?;
        self.failures += 1;
        Some(wait_s)
    }
}

fn shuffle(addresses: &mut [AmqpAddress]) {
    use std::hash::{BuildHasher, RandomState};
    for last in (1..addresses.len()).rev() {
        let random = RandomState::new().hash_one(last) as usize;
        addresses.swap(last, random % (last + 1));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn address(host: &str) -> AmqpAddress {
        AmqpAddress {
            host: host.into(),
            port: 1,
            virtual_host: "/".into(),
            username: String::new(),
            password: String::new(),
            login_method: "PLAIN".into(),
            connect_timeout_s: 1.0,
            heartbeat_s: 0,
            connection_name: String::new(),
            tls: None,
            credential_source: None,
        }
    }

    fn policy() -> RetryPolicy {
        RetryPolicy {
            retry: true,
            retry_on_startup: true,
            max_retries: Some(3),
            interval_start_s: 2.0,
            interval_step_s: 2.0,
            interval_max_s: 5.0,
        }
    }

    #[test]
    fn servers_take_turns_and_waits_grow() {
        let mut reconnect = Reconnect::new(policy(), vec![address("a"), address("b")], Failover::RoundRobin);
        let error = Error::new(ErrorKind::Connection, "refused");
        let tried: Vec<_> = (0..4).map(|_| (reconnect.address().host, reconnect.on_failure(&error))).collect();
        let expected = [("a", Some(2.0)), ("b", Some(4.0)), ("a", Some(5.0)), ("b", None)];
        assert_eq!(tried, expected.map(|(host, wait)| (host.to_owned(), wait)));
    }

    #[test]
    fn a_refused_declaration_ends_it_and_a_refused_password_does_not() {
        let mut reconnect = Reconnect::new(policy(), vec![address("a")], Failover::Shuffle);
        assert!(reconnect.on_failure(&Error::new(ErrorKind::Authentication, "no")).is_some());
        let refused = Error::new(ErrorKind::ServerRefused, "inequivalent arg");
        assert!(reconnect.on_failure(&refused).is_none());
        reconnect.on_connected();
        assert!(reconnect.on_failure(&refused).is_some(), "a server that has just started may not have everything yet");
    }
}
