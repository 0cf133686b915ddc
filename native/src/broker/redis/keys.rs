//! Names of everything we touch in Redis: kombu's keys to the letter, and our own side keys.
//!
//! | key (after the global prefix) | what |
//! |---|---|
//! | `<queue>`, `<queue><sep><priority>` | kombu's lists; the right end is the oldest message |
//! | `unacked` | kombu's hash: tag to `[message, exchange, routing key]` |
//! | `unacked_index` | kombu's sorted set: tag by the time it was last seen |
//! | `unacked_mutex` | kombu's lock around its sweep |
//! | `_kombu.binding.<exchange>` | kombu's set of bindings |
//! | `pyworker:nodes` | sorted set: owner by the time it was last seen; expires |
//! | `pyworker:reclaim:<owner>` | lock of the node that hands a dead owner's messages back; expires |
//! | `pyworker:deliveries` | hash: digest of a message that came back to how often; expires |

use crate::broker::DeliveryTag;
use crate::config::RedisBrokerConfig;
use crate::wire::resp::CommandWriter;

// A tag is a number: from the low end eight bits of priority, one bit of spelling, the counter.
//
// The priority step of its list is in the tag so that whoever finds the tag knows where the message came
// from. One tag of each batch is spelled with zeros up to this width: a member of more than 64 bytes makes
// Redis keep the index as a skip list at once. With short members only, every batch that meets an empty
// index begins as a flat list that is searched and shifted for each of its first 128 members (measured:
// 8.7 against 0.35 us of server time for each message of batches of 200).
const COUNTER_SHIFT: u32 = 9;
const LONG_BIT: u64 = 1 << 8;
const LONG_WIDTH: usize = 65;

/// Index of a queue's priority list: `queue * steps + step`, so that a further queue changes none.
pub(super) type ListIndex = u32;

/// All names, built once.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    pub(super) prefix: Vec<u8>,
    pub(super) separator: Vec<u8>,
    pub(super) unacked: Vec<u8>,
    pub(super) unacked_index: Vec<u8>,
    pub(super) mutex: Vec<u8>,
    pub(super) nodes: Vec<u8>,
    pub(super) reclaim_lock_prefix: Vec<u8>,
    pub(super) deliveries: Vec<u8>,
    /// `pyw:<owner>:`
    pub(super) tag_prefix: Vec<u8>,
    /// Priority steps, most urgent first.
    pub(super) steps: Vec<u8>,
    /// By `ListIndex`.
    lists: Vec<Vec<u8>>,
    /// By queue: what follows the message in an entry of ours.
    tails: Vec<Vec<u8>>,
}

impl Keys {
    pub(super) fn new(config: &RedisBrokerConfig) -> Self {
        let prefix = config.global_keyprefix.as_bytes().to_vec();
        let prefixed = |name: &str| [prefix.as_slice(), name.as_bytes()].concat();
        let separator = config.separator.as_bytes().to_vec();
        let mut lists = Vec::with_capacity(config.queues.len() * config.priority_steps.len());
        for queue in &config.queues {
            lists.extend(config.priority_steps.iter().map(|step| list_name(&prefix, queue, &separator, *step)));
        }
        Self {
            unacked: prefixed(&config.unacked_key),
            unacked_index: prefixed(&config.unacked_index_key),
            mutex: prefixed("unacked_mutex"),
            nodes: prefixed("pyworker:nodes"),
            reclaim_lock_prefix: prefixed("pyworker:reclaim:"),
            deliveries: prefixed("pyworker:deliveries"),
            tag_prefix: format!("pyw:{}:", config.owner).into_bytes(),
            steps: config.priority_steps.clone(),
            lists,
            tails: config.queues.iter().map(|queue| entry_tail(queue)).collect(),
            prefix,
            separator,
        }
    }

    /// Adds a queue; the indexes of the others' lists stay.
    pub(super) fn add_queue(&mut self, queue: &str) {
        self.lists.extend(self.steps.iter().map(|step| list_name(&self.prefix, queue, &self.separator, *step)));
        self.tails.push(entry_tail(queue));
    }

    pub(super) fn queue_count(&self) -> usize {
        self.tails.len()
    }

    pub(super) fn list(&self, index: ListIndex) -> &[u8] {
        self.lists.get(index as usize).map_or(b"", Vec::as_slice)
    }

    pub(super) fn list_index(&self, step: usize, queue: u16) -> ListIndex {
        (usize::from(queue) * self.steps.len() + step) as ListIndex
    }

    pub(super) fn queue_of(&self, index: ListIndex) -> u16 {
        (index as usize / self.steps.len()) as u16
    }

    pub(super) fn tail(&self, queue: u16) -> &[u8] {
        self.tails.get(usize::from(queue)).map_or(b"", Vec::as_slice)
    }

    /// The tag that the fetch script gives to the message of a counter from a list; `first` of its batch.
    pub(super) fn tag(&self, counter: u64, list: ListIndex, first: bool) -> DeliveryTag {
        let step = list as usize % self.steps.len();
        let long = if first { LONG_BIT } else { 0 };
        (counter << COUNTER_SHIFT) | long | u64::from(self.steps.get(step).copied().unwrap_or(0))
    }

    /// Writes a tag as an argument, spelled as the fetch script spelled it.
    pub(super) fn write_tag(&self, command: &mut CommandWriter<'_>, tag: DeliveryTag) {
        if tag & LONG_BIT == 0 {
            command.arg_numbered(&self.tag_prefix, tag);
        } else {
            command.arg_zero_padded(&self.tag_prefix, tag, LONG_WIDTH);
        }
    }

    /// The list of a queue that need not be one of ours, as kombu places a message of this priority.
    pub(super) fn list_for(&self, queue: &str, priority: Option<i64>) -> Vec<u8> {
        let priority = priority.unwrap_or(0).clamp(0, 9);
        let below = self.steps.iter().filter(|step| i64::from(**step) <= priority).count();
        // kombu indexes with bisect - 1, which wraps to the last step when there is none below.
        let step = below.checked_sub(1).map_or(self.steps.last(), |at| self.steps.get(at));
        list_name(&self.prefix, queue, &self.separator, step.copied().unwrap_or(0))
    }
}

/// The counter of a tag.
pub(super) fn counter_of(tag: DeliveryTag) -> u64 {
    tag >> COUNTER_SHIFT
}

fn list_name(prefix: &[u8], queue: &str, separator: &[u8], step: u8) -> Vec<u8> {
    let mut name = [prefix, queue.as_bytes()].concat();
    if step != 0 {
        name.extend_from_slice(separator);
        name.extend_from_slice(step.to_string().as_bytes());
    }
    name
}

/// `,"","<queue>"]`: restored by stock kombu to exactly this queue.
fn entry_tail(queue: &str) -> Vec<u8> {
    let mut tail = String::from(",\"\",\"");
    for character in queue.chars() {
        match character {
            '"' => tail.push_str("\\\""),
            '\\' => tail.push_str("\\\\"),
            control if u32::from(control) < 0x20 => tail.push_str(&format!("\\u{:04x}", u32::from(control))),
            plain => tail.push(plain),
        }
    }
    tail.push_str("\"]");
    tail.into_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn queue_names_are_escaped_in_entries() {
        assert_eq!(entry_tail("celery"), br#","","celery"]"#);
        assert_eq!(entry_tail("a\"b\\c\n"), br#","","a\"b\\c\u000a"]"#);
    }

    #[test]
    fn priority_zero_has_no_suffix() {
        assert_eq!(list_name(b"p:", "q", b"|", 0), b"p:q");
        assert_eq!(list_name(b"p:", "q", b"|", 3), b"p:q|3");
    }
}
