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
        let mut held = std::mem::take(&mut self.events.held);
        let told = release_after(&mut held, earlier, |id, retries| self.earlier_attempt(id, retries));
        self.events.held = held;
        told.iter().for_each(|held| self.tell_held(held));
    }

    /// Tells what is held of one task, or of all, whatever it waits for.
    pub(super) fn release_events_of(&mut self, id: Option<&str>) {
        let (mut told, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.events.held).into_iter().partition(|held| id.is_none_or(|id| id == &*held.id));
        self.events.held = kept;
        told.sort_by_key(|held| held.retries);
        told.iter().for_each(|held| self.tell_held(held));
    }

    fn tell_held(&mut self, held: &HeldEvent) {
        if self.events.is_on() {
            self.events.reopen(&held.event);
            self.close_event();
        }
    }
}

/// Takes out what waited for the end of this attempt; what has to wait for another one on top of that stays, with that
/// one's name. `earlier_attempt` finds an attempt of a task that is not over and comes before the given one.
fn release_after(
    held: &mut Vec<HeldEvent>,
    earlier: JobHandle,
    earlier_attempt: impl Fn(&str, u32) -> Option<JobHandle>,
) -> Vec<HeldEvent> {
    let mut told = Vec::new();
    for mut event in std::mem::take(held) {
        if event.earlier == earlier {
            match earlier_attempt(&event.id, event.retries) {
                Some(next) => event.earlier = next,
                None => {
                    told.push(event);
                    continue;
                }
            }
        }
        held.push(event);
    }
    // A third attempt may have been received before the second one's end was heard of.
    told.sort_by_key(|event| event.retries);
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(earlier: JobHandle, retries: u32, name: &str) -> HeldEvent {
        HeldEvent { earlier, id: "id".into(), retries, event: name.into() }
    }

    fn names(events: &[HeldEvent]) -> Vec<&str> {
        events.iter().filter_map(|held| std::str::from_utf8(&held.event).ok()).collect()
    }

    #[test]
    fn attempts_are_told_in_their_order_whatever_was_heard_of_first() {
        // Jobs 1, 2 and 3 are a task's attempts; 2 and 3 were received, and 2 ended, before the end of 1 was heard of.
        let mut held = vec![event(1, 1, "received 2"), event(1, 1, "started 2"), event(2, 2, "received 3")];
        held.push(event(1, 1, "retried 2"));
        assert!(release_after(&mut held, 2, |_, _| Some(1)).is_empty());
        let told = release_after(&mut held, 1, |_, _| None);
        assert_eq!(names(&told), ["received 2", "started 2", "retried 2", "received 3"]);
        assert!(held.is_empty());
    }

    #[test]
    fn what_waits_for_another_attempt_stays() {
        let mut held = vec![event(1, 1, "received 2"), event(1, 2, "received 3"), event(7, 1, "other")];
        let told = release_after(&mut held, 1, |_, retries| (retries == 2).then_some(2));
        assert_eq!(names(&told), ["received 2"]);
        assert_eq!(held.iter().map(|held| held.earlier).collect::<Vec<_>>(), [2, 7]);
    }
}
