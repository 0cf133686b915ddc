//! Consumers: one per queue, its prefetch moved in steps, what came ahead of the demand in a buffer.
//!
//! The prefetch of a running consumer cannot be changed, and a limit for the whole channel does not exist on quorum
//! queues and newer servers. So a queue whose consumer has used up its prefetch while the engine wants more gets a
//! new consumer with a larger one, and the old one is cancelled. What the server sends ahead of the demand waits here
//! and goes back when the engine wants nothing for a while.

use std::collections::VecDeque;

use super::assembly::Delivered;
use crate::clock::MonotonicNs;
use crate::config::amqp::AmqpQueue;
use crate::wire::amqp::{write_cancel, write_consume, write_qos};

/// The channel that consumes and acknowledges.
pub(super) const CHANNEL: u16 = 1;
/// A prefetch this large moves in steps of eight, a smaller one to what is needed.
const SMALL: u32 = 64;
const STEP: u32 = 8;
const PREFETCH_MAX: u32 = 65_535;
/// This much more than the engine holds may wait here while it wants nothing.
const HOARD_MAX: usize = 32;
/// How long the engine must want nothing before a hoard goes back.
const IDLE_NS: MonotonicNs = 500_000_000;

#[derive(Debug, Clone, Copy)]
struct Consumer {
    serial: u32,
    prefetch: u32,
    unacked: u32,
    confirmed: bool,
}

/// Encoded arguments of a queue's consumers.
#[derive(Debug, Default)]
pub(super) struct ConsumerArguments {
    /// For every server.
    pub(super) plain: Vec<u8>,
    /// For those that may be asked for patience, where they differ.
    pub(super) patient: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Queue {
    name: String,
    no_ack: bool,
    /// It goes with its last consumer, and what is in it too.
    is_kept_by_us: bool,
    arguments: ConsumerArguments,
    active: bool,
    consumer: Option<Consumer>,
    buffer: VecDeque<Delivered>,
}

/// All queues.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    queues: Vec<Queue>,
    next_serial: u32,
    /// Where the next round of handing out begins.
    turn: usize,
    /// `basic.qos` without an answer; true confirms what was settled before it. Other answers may overtake these,
    /// because they come from the queues and not from the channel.
    pub(super) limits_sent: VecDeque<bool>,
    idle_since_ns: Option<MonotonicNs>,
    /// The server may be asked for patience.
    pub(super) server_takes_timeouts: bool,
}

impl Consumers {
    /// A further queue, the last by index. `is_kept_by_us`: it goes with its last consumer.
    pub(super) fn add(&mut self, queue: &AmqpQueue, is_kept_by_us: bool, arguments: ConsumerArguments) {
        self.queues.push(Queue {
            name: queue.name.clone(),
            no_ack: queue.no_ack,
            is_kept_by_us,
            arguments,
            active: true,
            consumer: None,
            buffer: VecDeque::new(),
        });
    }

    pub(super) fn name(&self, queue: u16) -> &str {
        self.queues.get(usize::from(queue)).map_or("", |queue| queue.name.as_str())
    }

    pub(super) fn is_no_ack(&self, queue: u16) -> bool {
        self.queues.get(usize::from(queue)).is_some_and(|queue| queue.no_ack)
    }

    /// The queue and number that a consumer tag of ours names.
    pub(super) fn parse_tag(&self, tag: &[u8]) -> Option<(u16, u32)> {
        let (queue, serial) = std::str::from_utf8(tag).ok()?.strip_prefix("pyw-")?.split_once('-')?;
        let queue: u16 = queue.parse().ok()?;
        (usize::from(queue) < self.queues.len()).then_some((queue, serial.parse().ok()?))
    }

    /// A message came; `None` if nobody wants it any more and it must go back.
    pub(super) fn receive(&mut self, message: Delivered) -> Option<()> {
        let queue = &mut self.queues[usize::from(message.queue)];
        queue.consumer?;
        queue.buffer.push_back(message);
        Some(())
    }

    /// A message used up one of a consumer's credits.
    pub(super) fn on_credit_used(&mut self, queue: u16, serial: u32) {
        self.with_consumer(queue, serial, |consumer| consumer.unacked += 1);
    }

    /// A credit came back.
    pub(super) fn on_credit_back(&mut self, queue: u16, serial: u32) {
        self.with_consumer(queue, serial, |consumer| consumer.unacked = consumer.unacked.saturating_sub(1));
    }

    fn with_consumer(&mut self, queue: u16, serial: u32, change: impl FnOnce(&mut Consumer)) {
        let consumer = self.queues.get_mut(usize::from(queue)).and_then(|queue| queue.consumer.as_mut());
        if let Some(consumer) = consumer.filter(|consumer| consumer.serial == serial) {
            change(consumer);
        }
    }

    /// The server answered a `basic.consume`.
    pub(super) fn on_consuming(&mut self, queue: u16, serial: u32) {
        self.with_consumer(queue, serial, |consumer| consumer.confirmed = true);
    }

    /// The server ended a consumer; true if it was the present one.
    pub(super) fn on_cancelled(&mut self, queue: u16, serial: u32) -> bool {
        let queue = &mut self.queues[usize::from(queue)];
        let is_present = queue.consumer.is_some_and(|consumer| consumer.serial == serial);
        if is_present {
            queue.consumer = None;
        }
        is_present
    }

    /// The channel is gone, and with it every consumer and what waits here.
    pub(super) fn on_channel_lost(&mut self) {
        self.limits_sent.clear();
        self.idle_since_ns = None;
        for queue in &mut self.queues {
            queue.consumer = None;
            queue.buffer.clear();
        }
    }

    /// Starts consumers that are missing and replaces those that have no credit left while more is wanted.
    pub(super) fn follow(&mut self, demand: u32, out: &mut Vec<u8>) {
        if demand == 0 {
            return;
        }
        for index in 0..self.queues.len() {
            let queue = &self.queues[index];
            if !queue.active {
                continue;
            }
            match queue.consumer {
                None => self.subscribe(index, demand, out),
                Some(consumer) => {
                    let used_up = consumer.confirmed && consumer.unacked >= consumer.prefetch;
                    if used_up && queue.buffer.is_empty() && consumer.prefetch < PREFETCH_MAX && !queue.no_ack {
                        let need = consumer.unacked.saturating_add(demand);
                        let prefetch = if need <= SMALL { need } else { need.max(consumer.prefetch * STEP) };
                        self.subscribe(index, prefetch, out);
                    }
                }
            }
        }
    }

    fn subscribe(&mut self, index: usize, prefetch: u32, out: &mut Vec<u8>) {
        self.next_serial += 1;
        let serial = self.next_serial;
        let prefetch = prefetch.clamp(1, PREFETCH_MAX);
        let queue = &mut self.queues[index];
        write_qos(out, CHANNEL, prefetch as u16);
        self.limits_sent.push_back(false);
        let ConsumerArguments { plain, patient } = &queue.arguments;
        let arguments = patient.as_ref().filter(|_| self.server_takes_timeouts).unwrap_or(plain);
        write_consume(out, CHANNEL, &queue.name, &format!("pyw-{index}-{serial}"), queue.no_ack, arguments);
        let old = queue.consumer.replace(Consumer { serial, prefetch, unacked: 0, confirmed: false });
        if let Some(old) = old {
            write_cancel(out, CHANNEL, &format!("pyw-{index}-{}", old.serial));
        }
    }

    /// Stops consuming a queue; what waits here is given to `back`.
    fn unsubscribe(&mut self, index: usize, out: &mut Vec<u8>, back: &mut impl FnMut(u64)) {
        let queue = &mut self.queues[index];
        if let Some(consumer) = queue.consumer.take() {
            write_cancel(out, CHANNEL, &format!("pyw-{index}-{}", consumer.serial));
        }
        queue.buffer.drain(..).for_each(|message| back(message.delivery));
    }

    /// Stops consuming everything until something is wanted again, but for queues that would go with it: those
    /// keep what they have sent here.
    pub(super) fn pause(&mut self, out: &mut Vec<u8>, mut back: impl FnMut(u64)) {
        self.idle_since_ns = None;
        for index in 0..self.queues.len() {
            if !self.queues[index].is_kept_by_us {
                self.unsubscribe(index, out, &mut back);
            }
        }
    }

    /// Starts or stops consuming one queue.
    pub(super) fn set_active(&mut self, queue: u16, active: bool, out: &mut Vec<u8>, mut back: impl FnMut(u64)) {
        let index = usize::from(queue);
        if index >= self.queues.len() {
            return;
        }
        self.queues[index].active = active;
        if !active {
            self.unsubscribe(index, out, &mut back);
        }
    }

    /// What waits here and could go back.
    fn buffered(&self) -> usize {
        self.queues.iter().filter(|queue| !queue.is_kept_by_us).map(|queue| queue.buffer.len()).sum()
    }

    /// Whether what waits here should go back: more than a little, and wanted by nobody for a while.
    pub(super) fn is_hoarding(&mut self, demand: u32, held: usize, now_ns: MonotonicNs) -> bool {
        if demand > 0 || self.buffered() <= HOARD_MAX + held {
            self.idle_since_ns = None;
            return false;
        }
        now_ns.saturating_sub(*self.idle_since_ns.get_or_insert(now_ns)) >= IDLE_NS
    }

    /// When `is_hoarding` should be asked again.
    pub(super) fn deadline_ns(&self) -> Option<MonotonicNs> {
        self.idle_since_ns.map(|since_ns| since_ns + IDLE_NS)
    }

    /// The next message, queue by queue.
    pub(super) fn next(&mut self) -> Option<Delivered> {
        for _ in 0..self.queues.len() {
            let index = self.turn % self.queues.len();
            self.turn = (index + 1) % self.queues.len();
            if let Some(message) = self.queues[index].buffer.pop_front() {
                return Some(message);
            }
        }
        None
    }

    /// Whether `next` has something.
    pub(super) fn has_messages(&self) -> bool {
        self.queues.iter().any(|queue| !queue.buffer.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Undecodable;
    use crate::error::{Error, ErrorKind};

    fn message(queue: u16, delivery: u64) -> Delivered {
        let content = Err(Undecodable { error: Error::new(ErrorKind::Malformed, ""), raw: Vec::new() });
        Delivered {
            delivery,
            queue,
            consumer: 0,
            redelivered: false,
            deliveries: 0,
            identity: 0,
            content,
            properties: Vec::new(),
        }
    }

    fn consumers() -> Consumers {
        let mut consumers = Consumers::default();
        for (name, is_kept_by_us) in [("a", false), ("b", false), ("kept", true)] {
            let name = name.to_owned();
            let queue = AmqpQueue { name, no_ack: false, arguments: Vec::new(), delay_key: None };
            consumers.add(&queue, is_kept_by_us, ConsumerArguments::default());
        }
        consumers.follow(2, &mut Vec::new());
        consumers
    }

    #[test]
    fn queues_take_turns() {
        let mut consumers = consumers();
        for (queue, delivery) in [(0, 1), (0, 2), (0, 3), (1, 4), (1, 5)] {
            consumers.receive(message(queue, delivery));
        }
        let order: Vec<u64> = std::iter::from_fn(|| consumers.next()).map(|message| message.delivery).collect();
        assert_eq!(order, [1, 4, 2, 5, 3]);
    }

    #[test]
    fn a_consumer_without_credit_is_replaced_once_it_is_known_and_more_is_wanted() {
        let mut consumers = consumers();
        let mut out = Vec::new();
        (0..2).for_each(|_| consumers.on_credit_used(0, 1));
        consumers.follow(3, &mut out);
        assert!(out.is_empty(), "the server has not confirmed it");
        consumers.on_consuming(0, 1);
        consumers.follow(0, &mut out);
        assert!(out.is_empty(), "nothing is wanted");
        consumers.follow(3, &mut out);
        assert!(String::from_utf8_lossy(&out).contains("pyw-0-4"));
        // The old one's messages are none of the new one's.
        consumers.on_credit_back(0, 1);
        let length = out.len();
        consumers.on_consuming(0, 4);
        consumers.follow(3, &mut out);
        assert_eq!(out.len(), length);
    }

    #[test]
    fn a_hoard_goes_back_after_a_while_without_demand() {
        let mut consumers = consumers();
        assert!((0..40).all(|delivery| consumers.receive(message(0, delivery)).is_some()));
        assert!(!consumers.is_hoarding(0, 0, 1_000));
        assert!(!consumers.is_hoarding(1, 0, 2 * IDLE_NS), "it is wanted again");
        assert!(!consumers.is_hoarding(0, 0, 3 * IDLE_NS));
        assert!(consumers.is_hoarding(0, 0, 4 * IDLE_NS));
        let mut back = Vec::new();
        consumers.pause(&mut Vec::new(), |delivery| back.push(delivery));
        assert_eq!(back.len(), 40);
        assert!(consumers.receive(message(0, 41)).is_none(), "what comes late goes back too");
    }

    #[test]
    fn a_queue_that_goes_with_its_consumer_keeps_it() {
        let mut consumers = consumers();
        assert!((0..40).all(|delivery| consumers.receive(message(2, delivery)).is_some()));
        let (mut out, mut back) = (Vec::new(), Vec::new());
        consumers.pause(&mut out, |delivery| back.push(delivery));
        let cancelled = String::from_utf8_lossy(&out).into_owned();
        assert!(cancelled.contains("pyw-0-") && cancelled.contains("pyw-1-") && !cancelled.contains("pyw-2-"));
        assert!(back.is_empty() && !consumers.is_hoarding(0, 0, 1) && !consumers.is_hoarding(0, 0, 9 * IDLE_NS));
        assert_eq!(consumers.next().map(|message| message.delivery), Some(0));
    }
}
