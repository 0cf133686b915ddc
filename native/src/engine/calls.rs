//! Calls: work for the pool that is no message. A step or a strategy of the application hands a function to the pool;
//! it runs as a job of its own, with nothing to settle at the broker.

use crate::broker::DeliveryTag;
use crate::delivery::DeliveryState;
use crate::engine::jobs::{Job, Message};
use crate::engine::node::Node;
use crate::engine::notice::{Content, Notice, Reason};
use crate::message::{build_envelope, parse_envelope};

/// The tag of what came from no broker.
pub(super) const NO_DELIVERY: DeliveryTag = DeliveryTag::MAX;

impl Node {
    /// Puts a call into the ready queue. Its content names a registered task, whose limits it has.
    pub(super) fn call(&mut self, content: &Content) {
        if !self.consuming {
            return;
        }
        let raw = build_envelope(
            &content.body,
            &content.headers,
            &content.properties,
            &content.content_type,
            &content.content_encoding,
        );
        let envelope = match parse_envelope(raw, u64::MAX) {
            Ok(envelope) => envelope,
            Err((error, _)) => {
                self.notices.push(Notice::log(40, format!("A call for the pool cannot be read: {error}")));
                return;
            }
        };
        let handle = self.jobs.insert(Job {
            size_bytes: envelope.size_bytes() as u32,
            message: Message::Envelope(Box::new(envelope)),
            tag: NO_DELIVERY,
            queue: 0,
            task: None,
            state: DeliveryState::Received,
            received_ns: self.clock.monotonic_ns(),
            deliveries: 0,
            expires_s: None,
            // No broker waits for its end, and the ledger counts messages alone.
            settled: true,
            held: false,
            place: None,
            started_ns: 0,
            pending_writes: 0,
            end: None,
            announced: false,
            end_text: Box::default(),
            awaits_verdict: false,
            // The parent made it: it need not be shown to it.
            shown: true,
            reason: Reason::None,
            cleared: true,
            ends_on_verdict: false,
        });
        self.admit(handle, true);
    }
}
