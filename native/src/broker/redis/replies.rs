//! What the server's answers mean.

use super::fetching::{FetchAnswer, read_answer};
use super::keys::Keys;
use super::request::{FetchTicket, Request};
use super::server_error::{classify, is_unknown_script, needs_reconnect};
use super::settling::SettleQueue;
use super::{BUSY_WAIT_S, BrokerEvent, DeliveryTag, RedisBroker, entry};
use crate::broker::{Incoming, Undecodable};
use crate::clock::MonotonicNs;
use crate::error::{Error, ErrorKind, Result};
use crate::message::parse_envelope;
use crate::wire::resp::Frame;

/// Answers in a row that say a script is unknown, although it was just loaded.
const RELOADS_MAX: u32 = 100;

impl RedisBroker {
    /// Takes one answer. An error means that the connection is of no use any more.
    pub(super) fn on_reply(
        &mut self,
        request: Request,
        reply: Frame,
        now_ns: MonotonicNs,
        events: &mut Vec<BrokerEvent>,
    ) -> Result<()> {
        if let Frame::Error(line) = &reply {
            return self.on_refused(request, line, now_ns, events);
        }
        match request {
            Request::Load(script) => self.digests.set(script, reply.into_bytes()?),
            Request::Track { resp3 } => {
                self.on_prepared(resp3, now_ns, events);
                if !resp3 {
                    events.push(untracked(&Error::new(ErrorKind::ServerRefused, "no RESP3")));
                }
            }
            Request::Exists { .. } => self.fetching.on_existing(reply.as_integer().unwrap_or(1)),
            Request::Fetch(ticket) => self.on_fetched(ticket, reply, now_ns, events)?,
            Request::Ack(_) | Request::Requeue { .. } | Request::Park(_) => self.on_settled(&request, reply, events),
            Request::Renew { tags, .. } => self.on_renewed(&tags, reply, events)?,
            Request::Recall(tags) => self.on_recalled(tags, reply, events)?,
            Request::Undo { .. } => self.fetching.look_again(),
            Request::Heartbeat { sent_ns } => self.on_heartbeat(sent_ns, reply, now_ns)?,
            Request::Scan { owner, found, .. } => self.on_scanned(owner, found, reply, now_ns)?,
            Request::Reclaim { last, .. } => self.on_reclaimed(last, &reply),
            Request::Visible { ceiling_s, .. } => self.on_swept(ceiling_s, reply, now_ns)?,
            Request::Bindings { restore, routing_key, .. } => {
                self.on_bindings(*restore, &routing_key, reply, now_ns)?
            }
            Request::Restore(_) => self.on_restored(&reply),
            Request::KillPrevious { .. }
            | Request::Caching
            | Request::Forget(_)
            | Request::ForgetDeliveries(_)
            | Request::SignOff { .. } => {}
        }
        self.busy_wait_s = BUSY_WAIT_S;
        Ok(())
    }

    fn on_refused(
        &mut self,
        request: Request,
        line: &str,
        now_ns: MonotonicNs,
        events: &mut Vec<BrokerEvent>,
    ) -> Result<()> {
        let error = classify(line);
        if is_unknown_script(line) {
            // Somebody flushed the scripts: load them all again and repeat. The script did not run.
            self.reloads += 1;
            if self.reloads > RELOADS_MAX {
                self.keep_unanswered(request);
                return Err(error);
            }
            self.load_scripts(now_ns);
            self.ask(request, now_ns);
            return Ok(());
        }
        if needs_reconnect(line) || error.kind() == ErrorKind::Authentication {
            self.keep_unanswered(request);
            return Err(error);
        }
        if let Request::Fetch(ticket) = request {
            return self.on_fetch_refused(&ticket, error, now_ns);
        }
        if error.kind() == ErrorKind::ServerBusy {
            self.delay(request, now_ns);
            return Ok(());
        }
        match request {
            Request::Track { .. } => {
                self.on_prepared(false, now_ns, events);
                events.push(untracked(&error));
            }
            Request::Exists { .. } => {
                self.fetching.give_up_tracking();
                events.push(untracked(&error));
            }
            Request::Ack(tags) => self.on_settle_refused(&tags, &error, events),
            Request::Requeue { tags, .. } => self.on_settle_refused(&tags, &error, events),
            Request::Park(tags) => {
                let tags: Vec<_> = tags.iter().map(|(tag, _)| *tag).collect();
                self.on_settle_refused(&tags, &error, events);
            }
            // Without these nothing works: the same as no connection.
            Request::Load(_) | Request::Renew { .. } | Request::Heartbeat { .. } | Request::Recall(_) => {
                self.keep_unanswered(request);
                return Err(error);
            }
            // The work goes on without these.
            Request::Scan { .. } | Request::Reclaim { .. } | Request::Visible { .. } => {
                if self.sweeping.abandon_refused() {
                    let text = format!("Messages of dead workers are not brought back: {error}");
                    events.push(BrokerEvent::Degraded { text });
                }
            }
            Request::Undo { .. }
            | Request::Fetch(_)
            | Request::Bindings { .. }
            | Request::Restore(_)
            | Request::KillPrevious { .. }
            | Request::Caching
            | Request::Forget(_)
            | Request::ForgetDeliveries(_)
            | Request::SignOff { .. } => {}
        }
        Ok(())
    }

    /// A refused script may have registered a part before it stopped: that part goes back to its lists.
    fn on_fetch_refused(&mut self, ticket: &FetchTicket, error: Error, now_ns: MonotonicNs) -> Result<()> {
        self.fetches_sent_ns.pop_front();
        self.fetching.on_fetched(ticket, None, now_ns);
        if error.kind() != ErrorKind::ServerBusy {
            self.lost_fetches.push((ticket.first_counter, ticket.want));
            return Err(error);
        }
        self.delay(Request::Undo { first_counter: ticket.first_counter, want: ticket.want }, now_ns);
        self.fetching.back_off(now_ns, self.busy_wait_s);
        Ok(())
    }

    /// The connection is about to be given up: this request counts as unanswered.
    fn keep_unanswered(&mut self, request: Request) {
        self.delayed.push(request);
    }

    fn on_settle_refused(&mut self, tags: &[DeliveryTag], error: &Error, events: &mut Vec<BrokerEvent>) {
        self.settling.on_confirmed(tags.len());
        events.extend(tags.iter().map(|tag| BrokerEvent::SettleFailed { tag: *tag, error: error.clone() }));
    }

    /// An invalidation names keys, or nothing at all after a flush; either way the lists may have changed.
    pub(super) fn on_push(&mut self, items: &[Frame], now_ns: MonotonicNs) {
        if items.first().and_then(Frame::as_bytes) == Some(b"invalidate") {
            self.fetching.on_invalidated(now_ns);
        }
    }

    fn on_fetched(
        &mut self,
        ticket: FetchTicket,
        reply: Frame,
        now_ns: MonotonicNs,
        events: &mut Vec<BrokerEvent>,
    ) -> Result<()> {
        self.fetches_sent_ns.pop_front();
        let answer = match read_answer(reply, &ticket, &self.keys) {
            Ok(answer) => answer,
            Err(error) => {
                self.lost_fetches.push((ticket.first_counter, ticket.want));
                self.fetching.on_fetched(&ticket, None, now_ns);
                return Err(error);
            }
        };
        self.fetching.on_fetched(&ticket, Some(&answer), now_ns);
        if answer.messages.is_empty() {
            return Ok(());
        }
        self.fetching.rotate(&queues_used(&answer, &self.keys));
        let FetchAnswer { messages, redelivered, .. } = answer;
        self.counters.delivered += messages.len() as u64;
        let mut batch = Vec::with_capacity(messages.len());
        for fetched in messages {
            self.leases.hold(fetched.tag, fetched.list);
            let queue = self.keys.queue_of(fetched.list);
            batch.push(incoming(fetched.tag, queue, fetched.message, self.config.max_message_bytes));
        }
        for (tag, count, digest) in redelivered {
            if let Some(known) = batch.iter_mut().find(|incoming| incoming.tag == tag) {
                known.deliveries = count;
                self.leases.note_digest(tag, digest);
            }
        }
        events.push(BrokerEvent::Delivered(batch));
        Ok(())
    }

    fn on_settled(&mut self, request: &Request, reply: Frame, events: &mut Vec<BrokerEvent>) {
        let count = SettleQueue::weight(request);
        self.settling.on_confirmed(count);
        self.counters.settled += count as u64;
        match request {
            Request::Ack(tags) => {
                let ours = reply.as_integer().unwrap_or(0) as u64;
                self.counters.leases_lost += (tags.len() as u64).saturating_sub(ours);
            }
            Request::Requeue { .. } => self.counters.requeued += reply.as_integer().unwrap_or(0) as u64,
            Request::Park(parks) => {
                let tags: Vec<_> = parks.iter().map(|(tag, _)| *tag).collect();
                // A refusal to tell which tags are gone is no reason to keep them.
                self.drop_missing(&tags, reply.into_array().unwrap_or_default(), events);
            }
            _ => {}
        }
    }

    fn on_renewed(&mut self, tags: &[DeliveryTag], reply: Frame, events: &mut Vec<BrokerEvent>) -> Result<()> {
        self.drop_missing(tags, reply.into_array()?, events);
        if let Some(round) = &mut self.round {
            round.outstanding = round.outstanding.saturating_sub(1);
            if round.outstanding == 0 {
                let at_ns = round.proves_ns;
                self.round = None;
                self.times.on_renewed(at_ns);
                events.push(BrokerEvent::LeasesRenewed { at_ns });
            }
        }
        Ok(())
    }

    /// Forgets the tags at the positions that a script reported as gone. One that was settled meanwhile is
    /// gone because of that.
    fn drop_missing(&mut self, tags: &[DeliveryTag], positions: Vec<Frame>, events: &mut Vec<BrokerEvent>) {
        let positions = positions.iter().filter_map(Frame::as_integer);
        let gone: Vec<_> = positions
            .filter_map(|position| tags.get(position as usize).copied())
            .filter(|tag| self.leases.release(*tag).is_some())
            .collect();
        self.report_lost(gone, events);
    }

    fn report_lost(&mut self, gone: Vec<DeliveryTag>, events: &mut Vec<BrokerEvent>) {
        if !gone.is_empty() {
            self.counters.leases_lost += gone.len() as u64;
            events.push(BrokerEvent::LeaseLost(gone));
        }
    }

    fn on_recalled(&mut self, tags: Vec<DeliveryTag>, reply: Frame, events: &mut Vec<BrokerEvent>) -> Result<()> {
        let mut batch = Vec::with_capacity(tags.len());
        let mut gone = Vec::new();
        for (tag, entry) in tags.into_iter().zip(reply.into_array()?) {
            // Settled while the recall was on its way: nobody waits for it any more.
            if !self.leases.contains(tag) {
                continue;
            }
            if entry == Frame::Null {
                self.leases.release(tag);
                gone.push(tag);
                continue;
            }
            let Some(list) = self.leases.unpark(tag) else { continue };
            let queue = self.keys.queue_of(list);
            let entry = entry.into_bytes()?;
            batch.push(match entry::own_message(entry, self.keys.tail(queue)) {
                Ok(message) => incoming(tag, queue, message, self.config.max_message_bytes),
                Err(error) => {
                    let content = Err(Undecodable { error, raw: Vec::new() });
                    Incoming { tag, queue, deliveries: 0, content }
                }
            });
        }
        if !batch.is_empty() {
            events.push(BrokerEvent::Delivered(batch));
        }
        self.report_lost(gone, events);
        Ok(())
    }
}

fn untracked(error: &Error) -> BrokerEvent {
    let text =
        format!("Redis does not push changes, so queues are polled: idle costs and latency are higher ({error})");
    BrokerEvent::Degraded { text }
}

fn incoming(tag: DeliveryTag, queue: u16, message: Vec<u8>, max_bytes: u64) -> Incoming {
    let content = parse_envelope(message, max_bytes).map_err(|(error, raw)| Undecodable { error, raw });
    Incoming { tag, queue, deliveries: 0, content }
}

/// The queues that gave messages, in the order of their last one.
fn queues_used(answer: &FetchAnswer, keys: &Keys) -> Vec<u16> {
    if keys.queue_count() < 2 {
        return Vec::new();
    }
    let mut used: Vec<u16> = Vec::new();
    for fetched in answer.messages.iter().rev() {
        let queue = keys.queue_of(fetched.list);
        if !used.contains(&queue) {
            used.push(queue);
            if used.len() == keys.queue_count() {
                break;
            }
        }
    }
    used.reverse();
    used
}
