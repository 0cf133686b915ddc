//! The order of one task's events when several of its attempts are in the pool at once.
//!
//! A task publishes its next attempt before its own end is reported. That attempt can be received, started and even
//! ended by another child before the report comes; told as they come, `task-started` of the second would stand before
//! `task-retried` of the first, and a monitor would show a running task as waiting for its retry. So what belongs to
//! the later attempt is held back until the earlier ones have ended. Tasks that were never retried do not come here.

use crate::engine::jobs::{JobHandle, Message};
use crate::engine::node::Node;

/// An event that is held back; it gets its clock and its time when it is told.
#[derive(Debug)]
pub(super) struct HeldEvent {
    /// The attempt that has to end first.
    earlier: JobHandle,
    /// The task's id, and which attempt it is about.
    id: Box<str>,
    retries: u32,
    /// The event, without its common members.
    event: Vec<u8>,
}

impl Node {
    /// Closes the event that was opened last, or holds it back until the earlier attempts of its task have ended.
    pub(super) fn close_or_hold_event(&mut self, handle: JobHandle) {
        let Some((id, retries @ 1..)) = self.attempt_of(handle) else { return self.close_event() };
        let Some(earlier) = self.earlier_attempt(id, retries) else { return self.close_event() };
        let id = id.into();
        let event = self.events.take_opened();
        // What left without an end, by its lease for instance, holds nothing up for ever.
        let gone: Vec<JobHandle> =
            self.events.held.iter().map(|held| held.earlier).filter(|job| self.jobs.get(*job).is_none()).collect();
        gone.into_iter().for_each(|job| self.release_events_after(job));
        self.events.held.push(HeldEvent { earlier, id, retries, event });
    }

    fn attempt_of(&self, handle: JobHandle) -> Option<(&str, u32)> {
        match &self.jobs.get(handle)?.message {
            Message::Envelope(envelope) => Some((envelope.id(), envelope.retries())),
            Message::Undecodable(_) => None,
        }
    }

    /// An attempt of a task that is in the pool still and was sent before this one.
    fn earlier_attempt(&self, id: &str, retries: u32) -> Option<JobHandle> {
        let children = self.places.iter().filter_map(|place| place.child.as_ref());
        let mut handed = children.flat_map(|child| child.link.handed()).map(|handed| handed.job);
        handed.find(|job| self.attempt_of(*job).is_some_and(|(same, before)| same == id && before < retries))
    }

    /// Tells what waited for the end of this attempt, and for no other that is not over.
    pub(super) fn release_events_after(&mut self, earlier: JobHandle) {
        if self.events.held.is_empty() {
            return;
        }
        for mut held in std::mem::take(&mut self.events.held) {
            if held.earlier == earlier {
                match self.earlier_attempt(&held.id, held.retries) {
                    Some(next) => held.earlier = next,
                    None => {
                        self.tell_held(&held);
                        continue;
                    }
                }
            }
            self.events.held.push(held);
        }
    }

    /// Tells what is held of one task, or of all, whatever it waits for.
    pub(super) fn release_events_of(&mut self, id: Option<&str>) {
        for held in std::mem::take(&mut self.events.held) {
            if id.is_none_or(|id| id == &*held.id) {
                self.tell_held(&held);
            } else {
                self.events.held.push(held);
            }
        }
    }

    fn tell_held(&mut self, held: &HeldEvent) {
        if self.events.is_on() {
            self.events.reopen(&held.event);
            self.close_event();
        }
    }
}
