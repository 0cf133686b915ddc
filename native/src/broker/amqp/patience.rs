//! How long the server waits for the end of a delivery before it takes it back (`consumer_timeout`).
//!
//! Half an hour unless the server, a policy or the queue says otherwise. What runs here goes on when it is over, but
//! others may run the message too. From 4.3 on a consumer of a quorum queue may ask for more; classic queues and older
//! servers refuse the argument or know it for queues alone, whose arguments are not ours to change.

use super::handshake::ServerInfo;
use super::topology::table_of;
use crate::config::TaskConfig;
use crate::config::amqp::{AmqpBrokerConfig, Declaration};
use crate::error::Result;
use crate::wire::amqp::{FieldTable, FieldValue, Reader};

const ARGUMENT: &str = "x-consumer-timeout";
/// The first server that takes the argument from a consumer.
const SINCE: (u32, u32, u32) = (4, 3, 0);
/// The server's own patience.
const DEFAULT_S: f64 = 1800.0;
/// Asked for at least: our heartbeats say that we are there, and a reserve may wait behind long tasks.
const WEEK_S: f64 = 604_800.0;

/// What the tasks ask of the server's patience.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Patience {
    /// The longest hard time limit of a task that is acknowledged late.
    longest_late_s: f64,
}

impl Patience {
    /// What these tasks need.
    #[must_use]
    pub fn of(tasks: &[TaskConfig]) -> Self {
        let limits = tasks.iter().filter(|task| task.acks_late).filter_map(|task| task.time_limit_s);
        Self { longest_late_s: limits.fold(0.0, f64::max) }
    }

    /// The arguments of `basic.consume` that ask for it; `None` for a queue that is not known to take them or has a
    /// timeout of its own.
    pub(super) fn arguments(self, declared: &[Declaration], queue: &str, arguments: &[u8]) -> Result<Option<Vec<u8>>> {
        let queue_arguments = arguments_of(declared, queue)?;
        let mut table = FieldTable::decode(&mut Reader::new(arguments))?;
        if !is_quorum(&queue_arguments) || queue_arguments.get(ARGUMENT).is_some() || table.get(ARGUMENT).is_some() {
            return Ok(None);
        }
        let wanted_s = WEEK_S.max(2.0 * self.longest_late_s);
        table.set(ARGUMENT, FieldValue::Integer((wanted_s * 1000.0) as i64));
        let mut encoded = Vec::new();
        table.encode(&mut encoded);
        Ok(Some(encoded))
    }

    /// What to say about tasks that may outlast the server's patience; `None` where all is well.
    pub(super) fn warning(self, server: &ServerInfo, config: &AmqpBrokerConfig) -> Option<String> {
        if self.longest_late_s <= DEFAULT_S {
            return None;
        }
        let needed_ms = (self.longest_late_s * 1000.0) as i64;
        let is_short = |name: &str| {
            let arguments = arguments_of(&config.declarations, name).unwrap_or_default();
            match arguments.get(ARGUMENT) {
                Some(FieldValue::Integer(own_ms)) => *own_ms < needed_ms,
                _ => !(takes_argument(server) && is_quorum(&arguments)),
            }
        };
        let queue = config.queues.iter().find(|queue| !queue.no_ack && is_short(&queue.name))?;
        Some(format!(
            "Tasks that are acknowledged late may run for {} s. RabbitMQ hands a message of queue {:?} to another worker \
             if it is not acknowledged within its consumer_timeout, {DEFAULT_S} s unless configured: raise it there, by a \
             policy, or by {ARGUMENT} of the queue.",
            self.longest_late_s, queue.name
        ))
    }
}

/// Whether a consumer of a quorum queue may name its timeout.
pub(super) fn takes_argument(server: &ServerInfo) -> bool {
    server.version >= SINCE
}

fn is_quorum(arguments: &FieldTable) -> bool {
    arguments.get("x-queue-type").and_then(FieldValue::as_text) == Some("quorum")
}

fn arguments_of(declared: &[Declaration], queue: &str) -> Result<FieldTable> {
    let found = declared.iter().find_map(|one| match one {
        Declaration::Queue { name, arguments, .. } if name == queue => Some(arguments.as_slice()),
        _ => None,
    });
    FieldTable::decode(&mut Reader::new(&table_of(found.unwrap_or_default())?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::RetryPolicy;
    use crate::config::amqp::{AmqpQueue, Failover};
    use crate::wire::amqp::EMPTY_TABLE;

    fn task(acks_late: bool, time_limit_s: Option<f64>) -> TaskConfig {
        TaskConfig {
            name: "task".into(),
            acks_late,
            acks_on_failure: true,
            soft_time_limit_s: None,
            time_limit_s,
            rate_limit_per_s: None,
            parent_lane: false,
            watched: false,
        }
    }

    fn declared(arguments: &str) -> Vec<Declaration> {
        vec![Declaration::Queue {
            name: "q".into(),
            passive: false,
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments: arguments.into(),
        }]
    }

    fn asked_ms(patience: Patience, queue: &str, own: &[u8]) -> Option<i64> {
        let arguments = patience.arguments(&declared(queue), "q", own).unwrap()?;
        match FieldTable::decode(&mut Reader::new(&arguments)).unwrap().get(ARGUMENT) {
            Some(FieldValue::Integer(milliseconds)) => Some(*milliseconds),
            _ => None,
        }
    }

    #[test]
    fn a_quorum_queues_consumer_asks_for_a_week_or_twice_the_longest_limit() {
        let tasks = [task(true, Some(60.0)), task(false, Some(9e9)), task(true, None)];
        let quorum = r#"{"x-queue-type": "quorum"}"#;
        assert_eq!(asked_ms(Patience::of(&tasks), quorum, EMPTY_TABLE), Some(604_800_000));
        assert_eq!(asked_ms(Patience::of(&[task(true, Some(1e6))]), quorum, EMPTY_TABLE), Some(2_000_000_000));
    }

    #[test]
    fn what_somebody_else_said_counts_and_other_queues_are_left_alone() {
        let own = table_of(br#"{"x-consumer-timeout": 5000}"#).unwrap();
        assert_eq!(asked_ms(Patience::default(), r#"{"x-queue-type": "quorum"}"#, &own), None);
        let given = r#"{"x-queue-type": "quorum", "x-consumer-timeout": 1000}"#;
        assert_eq!(asked_ms(Patience::default(), given, EMPTY_TABLE), None);
        assert_eq!(asked_ms(Patience::default(), r#"{"x-queue-type": "classic"}"#, EMPTY_TABLE), None);
        assert_eq!(asked_ms(Patience::default(), "", EMPTY_TABLE), None);
    }

    #[test]
    fn long_late_tasks_are_warned_of_where_the_server_cannot_be_asked() {
        let config = |arguments: &str| AmqpBrokerConfig {
            addresses: Vec::new(),
            failover: Failover::RoundRobin,
            queues: vec![AmqpQueue { name: "q".into(), no_ack: false, arguments: Vec::new(), delay_key: None }],
            declarations: declared(arguments),
            delay_declarations: Vec::new(),
            retry: RetryPolicy {
                retry: true,
                retry_on_startup: true,
                max_retries: None,
                interval_start_s: 1.0,
                interval_step_s: 0.0,
                interval_max_s: 1.0,
            },
            max_message_bytes: 1,
        };
        let server = |version| ServerInfo { version, ..ServerInfo::default() };
        let quorum = r#"{"x-queue-type": "quorum"}"#;
        let long = Patience::of(&[task(true, Some(7200.0))]);
        let text = long.warning(&server((3, 10, 8)), &config(quorum)).unwrap();
        assert!(text.contains("7200 s") && text.contains("\"q\""), "{text}");
        assert!(long.warning(&server((4, 3, 0)), &config("")).is_some(), "a classic queue refuses the argument");
        assert_eq!(long.warning(&server((4, 3, 0)), &config(quorum)), None);
        assert_eq!(long.warning(&server((3, 12, 0)), &config(r#"{"x-consumer-timeout": 7200000}"#)), None);
        let short = Patience::of(&[task(true, Some(600.0)), task(true, None), task(false, Some(9e9))]);
        assert_eq!(short.warning(&server((3, 10, 8)), &config(quorum)), None);
    }
}
