//! Which list a message of a priority belongs to, as kombu's Redis transport decides it.

/// Priorities that kombu knows.
const PRIORITIES: std::ops::RangeInclusive<i64> = 0..=9;

/// Names the lists of queues.
#[derive(Debug, Clone)]
pub(super) struct QueueKeys {
    global_keyprefix: String,
    separator: String,
    /// In ascending order.
    steps: Vec<u8>,
}

impl QueueKeys {
    pub(super) fn new(global_keyprefix: String, separator: String, steps: Vec<u8>) -> Self {
        Self { global_keyprefix, separator, steps }
    }

    /// The step below or at the priority; the last step if there is none below, as Python's index -1 has it.
    fn step(&self, priority: i64) -> u8 {
        let priority = priority.clamp(*PRIORITIES.start(), *PRIORITIES.end());
        let above = self.steps.partition_point(|step| i64::from(*step) <= priority);
        let index = if above == 0 { self.steps.len() } else { above };
        index.checked_sub(1).and_then(|index| self.steps.get(index)).copied().unwrap_or(0)
    }

    /// Writes the key into a buffer that is reused.
    pub(super) fn write(&self, queue: &str, priority: i64, key: &mut Vec<u8>) {
        key.clear();
        key.extend_from_slice(self.global_keyprefix.as_bytes());
        key.extend_from_slice(queue.as_bytes());
        let step = self.step(priority);
        if step != 0 {
            key.extend_from_slice(self.separator.as_bytes());
            key.extend_from_slice(step.to_string().as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn key(steps: &[u8], priority: i64) -> String {
        let mut key = b"rest of the last".to_vec();
        QueueKeys::new("p:".into(), "\u{6}\u{16}".into(), steps.to_vec()).write("celery", priority, &mut key);
        String::from_utf8(key).unwrap()
    }

    #[test]
    fn a_priority_belongs_to_the_step_below_it() {
        let expected = [
            (-5, "p:celery"),
            (0, "p:celery"),
            (2, "p:celery"),
            (3, "p:celery\u{6}\u{16}3"),
            (5, "p:celery\u{6}\u{16}3"),
            (8, "p:celery\u{6}\u{16}6"),
            (9, "p:celery\u{6}\u{16}9"),
            (200, "p:celery\u{6}\u{16}9"),
        ];
        for (priority, name) in expected {
            assert_eq!(key(&[0, 3, 6, 9], priority), name, "{priority}");
        }
    }

    #[test]
    fn a_priority_below_all_steps_belongs_to_the_last() {
        assert_eq!(key(&[2, 7], 1), "p:celery\u{6}\u{16}7");
        assert_eq!(key(&[2, 7], 2), "p:celery\u{6}\u{16}2");
    }
}
