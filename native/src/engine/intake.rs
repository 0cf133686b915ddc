//! From the broker to the ready queue: every message is placed, shown to Python, or scheduled.

use crate::broker::{DeliveryTag, Incoming, Settlement};
use crate::delivery::DeliveryState;
use crate::engine::calls::NO_DELIVERY;
use crate::engine::command::Verdict;
use crate::engine::jobs::{Job, JobHandle, Message};
use crate::engine::node::Node;
use crate::engine::notice::{Content, Notice, NoticeKind, Reason};
use crate::message::{Envelope, Protocol, build_envelope, parse_envelope};

/// Scheduled messages that are kept whole, for `inspect scheduled`; the others are tags alone.
const SCHEDULED_SHOWN_MAX: usize = 1000;
/// What an undecodable envelope weighs beside its bytes, and any job beside its message.
const JOB_OVERHEAD_BYTES: usize = 256;

impl Node {
    pub(super) fn on_delivered(&mut self, incoming: Incoming) {
        let recalled = self.recalled.remove(&incoming.tag);
        if !self.consuming {
            self.settlements.push((incoming.tag, Settlement::Release));
            return;
        }
        if !recalled {
            self.counters.received += 1;
            self.counters.redelivered += u64::from(incoming.deliveries > 0);
        }
        let (message, size_bytes) = match incoming.content {
            Ok(envelope) => {
                let size_bytes = envelope.size_bytes() + JOB_OVERHEAD_BYTES;
                (Message::Envelope(Box::new(envelope)), size_bytes)
            }
            Err(undecodable) => {
                let size_bytes = undecodable.raw.len() + JOB_OVERHEAD_BYTES;
                (Message::Undecodable(Box::new(undecodable)), size_bytes)
            }
        };
        let expires_s = match &message {
            Message::Envelope(envelope) => envelope.expires_s(),
            Message::Undecodable(_) => None,
        };
        self.ledger.on_received(size_bytes);
        let handle = self.jobs.insert(Job {
            message,
            tag: incoming.tag,
            queue: incoming.queue,
            task: None,
            state: DeliveryState::Received,
            size_bytes: size_bytes as u32,
            received_ns: self.clock.monotonic_ns(),
            deliveries: incoming.deliveries,
            expires_s,
            settled: false,
            held: true,
            place: None,
            started_ns: 0,
            pending_writes: 0,
            end: None,
            announced: false,
            end_text: Box::default(),
            awaits_verdict: false,
            // Python saw it before it was scheduled.
            shown: recalled,
            reason: Reason::None,
            cleared: false,
            ends_on_verdict: false,
        });
        self.admit(handle, recalled);
    }

    /// Decides where a message goes. Called again after Python rewrote or released it.
    pub(super) fn admit(&mut self, handle: JobHandle, recalled: bool) {
        let Some(job) = self.jobs.get_mut(handle) else { return };
        let Message::Envelope(envelope) = &job.message else { return self.show(handle, Reason::Malformed) };
        if job.deliveries >= self.config.max_deliveries {
            return self.show(handle, Reason::TooManyDeliveries);
        }
        if envelope.protocol() == Protocol::V1 {
            return self.show(handle, Reason::Protocol1);
        }
        let Some(&task) = self.task_index.get(envelope.task()) else {
            return self.show(handle, Reason::UnknownTask);
        };
        job.task = Some(task);
        if envelope.eta_invalid() || envelope.expires_invalid() {
            return self.show(handle, Reason::InvalidTask);
        }
        let eta_s = envelope.eta_s();
        if self.config.notice_received && !recalled && !job.shown {
            let content = Content { body: Vec::new(), ..Content::from(&**envelope) };
            let mut notice = Notice { content, task_index: i64::from(task), ..Notice::new(NoticeKind::Received) };
            notice.seconds = eta_s.unwrap_or(0.0);
            self.notices.push(notice);
        }
        if self.is_stale(handle) {
            return;
        }
        let Some(job) = self.jobs.get(handle) else { return };
        // What Python saw before was received then.
        if !recalled && !job.shown {
            self.event_received(handle);
        }
        let Some(job) = self.jobs.get_mut(handle) else { return };
        if self.config.tasks[usize::from(task)].parent_lane && !job.shown {
            job.shown = true;
            return self.show(handle, Reason::ParentLane);
        }
        if let Some(due_s) = eta_s
            && due_s > self.clock.wall_s()
        {
            return self.schedule(handle, due_s);
        }
        let Some(job) = self.jobs.get_mut(handle) else { return };
        if job.state.advance(DeliveryState::Reserved).is_ok() && !self.rates.hold(task, handle) {
            self.ready.push_back(handle);
        }
    }

    /// Shows a job to Python if it expired or was revoked.
    pub(super) fn is_stale(&mut self, handle: JobHandle) -> bool {
        let Some(job) = self.jobs.get(handle) else { return true };
        if job.cleared {
            return false;
        }
        if job.expires_s.is_some_and(|expires_s| expires_s < self.clock.wall_s()) {
            self.show(handle, Reason::Expired);
            return true;
        }
        if self.revoked.contains(job.id()) || (self.watches_stamps && job.has_stamps()) {
            self.show(handle, Reason::Revoked);
            return true;
        }
        false
    }

    fn schedule(&mut self, handle: JobHandle, due_s: f64) {
        let Some(job) = self.jobs.remove(handle) else { return };
        self.ledger.on_released(job.size_bytes as usize);
        self.counters.scheduled += 1;
        self.settlements.push((job.tag, Settlement::Park { until_s: due_s }));
        self.eta.push(due_s, job.tag);
        if self.scheduled.len() < SCHEDULED_SHOWN_MAX
            && let Message::Envelope(envelope) = job.message
        {
            self.scheduled.insert(job.tag, envelope);
        }
    }

    /// Asks the broker for the messages whose time has come.
    pub(super) fn recall_due(&mut self) {
        if !self.consuming {
            return;
        }
        let mut due: Vec<DeliveryTag> = Vec::new();
        self.eta.pop_due(self.clock.wall_s(), 512, &mut due);
        if due.is_empty() {
            return;
        }
        // A short time may be over in the turn that scheduled it: the broker must know of the parking first, or it would
        // take it for one that it cannot keep, and hand the message out a second time.
        self.settle_queued();
        for tag in &due {
            self.scheduled.remove(tag);
            self.recalled.insert(*tag);
        }
        self.broker.recall(&due);
    }

    /// Puts a delivery in front of Python; it is settled by `resolve`.
    pub(super) fn show(&mut self, handle: JobHandle, reason: Reason) {
        let Some(job) = self.jobs.get_mut(handle) else { return };
        if job.place.is_none() && job.state.advance(DeliveryState::Shown).is_err() {
            return;
        }
        job.awaits_verdict = true;
        job.reason = reason;
        let notice = Self::delivery_notice(job, handle, reason);
        let queue = self.queue_name(notice.index as u16).to_owned();
        self.notices.push(Notice { queue, index: 0, ..notice });
    }

    /// The notice of a delivery; its `index` is the queue's until the caller names the queue.
    pub(super) fn delivery_notice(job: &Job, handle: JobHandle, reason: Reason) -> Notice {
        let mut notice = Notice {
            reason,
            handle,
            content: job.content(),
            task_index: job.task.map_or(-1, i64::from),
            redelivered: job.redelivered(),
            index: u32::from(job.queue),
            ..Notice::new(NoticeKind::Delivery)
        };
        match &job.message {
            Message::Undecodable(undecodable) => {
                notice.raw = undecodable.raw.clone();
                notice.text = undecodable.error.to_string();
            }
            Message::Envelope(envelope) => {
                if reason == Reason::InvalidTask {
                    notice.text = invalid_date(envelope);
                }
            }
        }
        notice
    }

    /// Python's verdict.
    pub(super) fn resolve(&mut self, handle: JobHandle, verdict: Verdict) {
        let Some(job) = self.jobs.get_mut(handle) else { return };
        if !job.awaits_verdict {
            return;
        }
        job.awaits_verdict = false;
        if std::mem::take(&mut job.ends_on_verdict) {
            self.end_child_of(handle);
        }
        let Some(job) = self.jobs.get_mut(handle) else { return };
        let in_pool = job.place.is_some() && job.end.is_none();
        match verdict {
            Verdict::Ack => self.settle(handle, Some(Settlement::Ack)),
            Verdict::Reject => self.settle(handle, Some(Settlement::Reject)),
            Verdict::Requeue => self.settle(handle, Some(Settlement::Requeue)),
            Verdict::Abandon => self.settle(handle, None),
            Verdict::Dispatch if job.place.is_none() => {
                job.state = DeliveryState::Received;
                job.shown = true;
                job.cleared = matches!(job.reason, Reason::Expired | Reason::Revoked);
                return self.admit(handle, true);
            }
            // It ran already; there is nothing to dispatch.
            Verdict::Dispatch => self.settle(handle, Some(Settlement::Ack)),
        }
        if !in_pool {
            self.jobs.remove(handle);
        }
    }

    /// Gives a shown delivery the content that Python made of it.
    pub(super) fn replace(&mut self, handle: JobHandle, content: &Content) {
        let Some(job) = self.jobs.get_mut(handle) else { return };
        let raw = build_envelope(
            &content.body,
            &content.headers,
            &content.properties,
            &content.content_type,
            &content.content_encoding,
        );
        match parse_envelope(raw, u64::MAX) {
            Ok(envelope) => {
                job.expires_s = envelope.expires_s();
                job.message = Message::Envelope(Box::new(envelope));
            }
            Err((error, _)) => {
                self.notices.push(Notice::log(40, format!("A rewritten message cannot be read: {error}")));
            }
        }
    }

    /// Hands a delivery's end to the broker; `None` leaves it to its lease. Once only.
    pub(super) fn settle(&mut self, handle: JobHandle, settlement: Option<Settlement>) {
        let Some(job) = self.jobs.get_mut(handle) else { return };
        if job.settled {
            return;
        }
        job.settled = true;
        if job.held {
            job.held = false;
            if job.started_ns != 0 {
                self.ledger.on_late_finished();
            }
            self.ledger.on_released(job.size_bytes as usize);
            if let Some(floor) = self.ledger.on_settled() {
                let text = format!(
                    "Resuming normal operations following a restart.\n\
                     Prefetch count has been restored to the maximum of {floor}"
                );
                self.notices.push(Notice::log(20, text));
            }
        }
        if let Some(settlement) = settlement {
            self.settlements.push((job.tag, settlement));
        }
    }

    /// Other workers have these: what has not started is dropped here.
    pub(super) fn on_lease_lost(&mut self, tags: &[DeliveryTag]) {
        for tag in tags {
            if self.scheduled.remove(tag).is_some() || self.eta.iter().any(|(_, held)| held == *tag) {
                self.eta.cancel(*tag);
            }
        }
        let lost: Vec<JobHandle> =
            self.jobs.iter().filter(|(_, job)| tags.contains(&job.tag)).map(|(handle, _)| handle).collect();
        for handle in lost {
            self.settle(handle, None);
            let Some(job) = self.jobs.get(handle) else { continue };
            if job.state == DeliveryState::Reserved {
                self.ready.retain(|ready| *ready != handle);
                self.rates.remove_if(|waiting| waiting == handle);
                self.jobs.remove(handle);
            } else if let Some(place) = job.place
                && job.started_ns == 0
            {
                self.withdraw(place);
            }
        }
    }

    /// Drops everything unstarted from one child's link back into the ready queue, so that lost ones go.
    fn withdraw(&mut self, place: crate::engine::jobs::Place) {
        self.take_back_all(place.child as usize);
        let is_lost = |job: &Job| job.settled && job.tag != NO_DELIVERY;
        let settled: Vec<JobHandle> =
            self.ready.iter().copied().filter(|handle| self.jobs.get(*handle).is_none_or(is_lost)).collect();
        self.ready.retain(|handle| !settled.contains(handle));
        for handle in settled {
            self.jobs.remove(handle);
        }
    }
}

fn invalid_date(envelope: &Envelope) -> String {
    let field = if envelope.eta_invalid() { "ETA" } else { "expires" };
    format!("invalid {field} value in the headers of {}", envelope.id())
}
