//! Task events: built here where the tasks pass by, handed to Python as one JSON list for many of them.
//!
//! Python publishes the lists through the library's own event exchange, so that every transport can carry them;
//! what it costs is one crossing for each list, not one for each event. The logical clock is shared with Python
//! ([`crate::engine::shared::Shared`]), so the events of a task carry rising numbers whoever made them.

use std::io::Write;

use crate::clock::MonotonicNs;
use crate::codec::json::{Kind, Scanner, escape_into};
use crate::engine::event_order::HeldEvent;
use crate::engine::jobs::{JobHandle, Message};
use crate::engine::node::Node;
use crate::engine::notice::{Notice, NoticeKind};
use crate::pool::frames::Outcome;

/// A list with this many events leaves at once.
const EVENTS_MAX: u32 = 2000;
/// Lists leave no sooner than this after each other; the first event after a pause leaves at once.
const FLUSH_INTERVAL_NS: u64 = 20_000_000;
/// Between the text of an exception and that of its traceback, in what a child says about an end.
const TEXT_SEPARATOR: char = '\0';

/// What every event says, and about which tasks none is wanted.
#[derive(Debug, Clone, Default)]
pub struct EventSettings {
    /// Whether task events are built at all.
    pub enabled: bool,
    /// Process id of the node.
    pub pid: u32,
    /// Hours between local time and UTC, with Celery's sign.
    pub utc_offset_h: f64,
    /// Indexes of the tasks that send no events.
    pub silent_tasks: Vec<u16>,
}

/// The list being built.
#[derive(Debug, Default)]
pub(super) struct EventBatch {
    enabled: bool,
    silent: Vec<u16>,
    /// The members that are the same in all events.
    common: Vec<u8>,
    body: Vec<u8>,
    count: u32,
    flushed_ns: MonotonicNs,
    /// Where in the body the event begins that was opened last, its separator included.
    opened_at: usize,
    /// Events that come too early; see [`crate::engine::event_order`].
    pub(super) held: Vec<HeldEvent>,
}

impl EventBatch {
    fn configure(&mut self, settings: EventSettings, hostname: &str) {
        self.enabled = settings.enabled;
        self.silent = settings.silent_tasks;
        self.common.clear();
        self.common.extend_from_slice(b",\"hostname\":");
        escape_into(hostname, &mut self.common);
        let rest = format!(",\"utcoffset\":{:?},\"pid\":{}", settings.utc_offset_h, settings.pid);
        self.common.extend_from_slice(rest.as_bytes());
    }

    /// Whether any events are wanted.
    pub(super) fn is_on(&self) -> bool {
        self.enabled
    }

    /// Whether events of this task are wanted.
    pub(super) fn wants(&self, task: Option<u16>) -> bool {
        self.enabled && task.is_some_and(|task| !self.silent.contains(&task))
    }

    /// When what was built must leave.
    pub(super) fn deadline_ns(&self) -> Option<MonotonicNs> {
        (self.count > 0).then_some(self.flushed_ns + FLUSH_INTERVAL_NS)
    }

    /// Begins an event; its own members follow, then [`Self::close`].
    fn open(&mut self, kind: &str, id: &str) {
        self.opened_at = self.body.len();
        self.body.extend_from_slice(if self.count == 0 { b"[{\"type\":" } else { b",{\"type\":" });
        escape_into(kind, &mut self.body);
        self.body.extend_from_slice(b",\"uuid\":");
        escape_into(id, &mut self.body);
    }

    /// Takes out the event that was opened last and not closed.
    pub(super) fn take_opened(&mut self) -> Vec<u8> {
        let event = self.body.split_off(self.opened_at + 1);
        self.body.truncate(self.opened_at);
        event
    }

    /// Opens an event that was taken out.
    pub(super) fn reopen(&mut self, event: &[u8]) {
        self.opened_at = self.body.len();
        self.body.push(if self.count == 0 { b'[' } else { b',' });
        self.body.extend_from_slice(event);
    }

    fn member(&mut self, name: &str, value: Option<&str>) {
        self.body.extend_from_slice(b",\"");
        self.body.extend_from_slice(name.as_bytes());
        self.body.extend_from_slice(b"\":");
        match value {
            Some(value) => escape_into(value, &mut self.body),
            None => self.body.extend_from_slice(b"null"),
        }
    }

    fn raw_member(&mut self, name: &str, value: &[u8]) {
        self.body.extend_from_slice(b",\"");
        self.body.extend_from_slice(name.as_bytes());
        self.body.extend_from_slice(b"\":");
        self.body.extend_from_slice(value);
    }

    fn close(&mut self, clock: u64, wall_s: f64) {
        self.body.extend_from_slice(&self.common);
        // Writing to memory does not fail.
        let _ = write!(self.body, ",\"clock\":{clock},\"timestamp\":{wall_s:?}}}");
        self.count += 1;
    }
}

/// The members of `task-received` that are in the message's headers, as they are written there.
#[derive(Default)]
struct ReceivedMembers<'a> {
    name: Option<&'a [u8]>,
    shadow: Option<&'a [u8]>,
    args: Option<&'a [u8]>,
    kwargs: Option<&'a [u8]>,
    root_id: Option<&'a [u8]>,
    parent_id: Option<&'a [u8]>,
    retries: Option<&'a [u8]>,
    eta: Option<&'a [u8]>,
    expires: Option<&'a [u8]>,
}

impl<'a> ReceivedMembers<'a> {
    /// Reads the headers; a damaged rest is left out, the envelope's reader has complained already.
    fn read(headers: &'a [u8]) -> Self {
        let mut members = Self::default();
        let mut scanner = Scanner::new(headers, 0);
        let mut more = scanner.open_object().unwrap_or(false);
        while more {
            let Ok(key) = scanner.key() else { break };
            let Ok(value) = scanner.value() else { break };
            let text = (value.kind != Kind::Null).then_some(&headers[value.start..value.end]);
            match &headers[key.start..key.end] {
                b"task" => members.name = text,
                b"shadow" => members.shadow = text,
                b"argsrepr" => members.args = text,
                b"kwargsrepr" => members.kwargs = text,
                b"root_id" => members.root_id = text,
                b"parent_id" => members.parent_id = text,
                b"retries" => members.retries = text,
                b"eta" => members.eta = text,
                b"expires" => members.expires = text,
                _ => {}
            }
            more = scanner.next_member().unwrap_or(false);
        }
        members
    }
}

impl Node {
    /// Turns task events on or off.
    pub(super) fn set_events(&mut self, settings: EventSettings) {
        let hostname = self.config.hostname.clone();
        self.events.configure(settings, &hostname);
    }

    pub(super) fn close_event(&mut self) {
        self.events.close(self.shared.forward_clock(), self.clock.wall_s());
        if self.events.count >= EVENTS_MAX {
            self.send_events();
        }
    }

    /// A message was accepted: `task-received`.
    pub(super) fn event_received(&mut self, handle: JobHandle) {
        let Some(job) = self.jobs.get(handle) else { return };
        if !self.events.wants(job.task) {
            return;
        }
        let Message::Envelope(envelope) = &job.message else { return };
        let members = ReceivedMembers::read(envelope.headers());
        self.events.open("task-received", envelope.id());
        let written = [
            ("name", members.shadow.filter(|shadow| shadow.len() > 2).or(members.name), "null"),
            ("args", members.args, "\"\""),
            ("kwargs", members.kwargs, "\"\""),
            ("root_id", members.root_id, "null"),
            ("parent_id", members.parent_id, "null"),
            ("retries", members.retries, "0"),
            ("eta", members.eta, "null"),
            ("expires", members.expires, "null"),
        ];
        for (name, value, missing) in written {
            self.events.raw_member(name, value.unwrap_or(missing.as_bytes()));
        }
        self.close_or_hold_event(handle);
    }

    /// A child began: `task-started`.
    pub(super) fn event_started(&mut self, handle: JobHandle) {
        let Some(job) = self.jobs.get(handle) else { return };
        if self.events.wants(job.task) {
            self.events.open("task-started", job.id());
            self.close_or_hold_event(handle);
        }
    }

    /// A child reported an end: `task-succeeded`, `task-failed` or `task-retried`; the others are Python's.
    pub(super) fn event_ended(&mut self, handle: JobHandle, outcome: Outcome, runtime_s: f64, text: &[u8]) {
        let Some(job) = self.jobs.get(handle) else { return };
        // A forced end was told by Python, whatever the child still said; a watched task's request tells its own.
        let watched = job.task.is_some_and(|task| self.config.tasks[usize::from(task)].watched);
        if !self.events.wants(job.task) || job.announced || watched {
            return;
        }
        let kind = match outcome {
            Outcome::Success => "task-succeeded",
            Outcome::Failure | Outcome::InternalError => "task-failed",
            Outcome::Retry => "task-retried",
            Outcome::Ignored | Outcome::Rejected | Outcome::RejectedRequeue | Outcome::Undecodable => return,
        };
        self.events.open(kind, job.id());
        let text = String::from_utf8_lossy(text);
        if outcome == Outcome::Success {
            self.events.member("result", Some(&text));
            let _ = write!(self.events.body, ",\"runtime\":{runtime_s:?}");
        } else {
            let (exception, traceback) = match text.split_once(TEXT_SEPARATOR) {
                Some((exception, traceback)) => (exception, Some(traceback)),
                None => (&*text, None),
            };
            self.events.member("exception", Some(exception));
            self.events.member("traceback", traceback);
        }
        self.close_or_hold_event(handle);
    }

    /// An event that Python made of its own: `members` is a JSON object without the common members.
    pub(super) fn event_of_python(&mut self, kind: &str, task_id: &str, members: &[u8]) {
        if kind != "task-retried" {
            self.release_events_of(Some(task_id));
        }
        self.events.open(kind, task_id);
        if let [b'{', inner @ .., b'}'] = members
            && !inner.is_empty()
        {
            self.events.body.push(b',');
            self.events.body.extend_from_slice(inner);
        }
        self.close_event();
    }

    /// Hands the list to Python if its time has come.
    pub(super) fn flush_events(&mut self) {
        if self.events.deadline_ns().is_some_and(|deadline_ns| deadline_ns <= self.clock.monotonic_ns()) {
            self.send_events();
        }
    }

    /// Hands the list to Python.
    pub(super) fn send_events(&mut self) {
        if self.events.count == 0 {
            return;
        }
        self.events.body.push(b']');
        // The next list is likely to be about as long: growing to it would copy it several times.
        let next = Vec::with_capacity(self.events.body.len() + self.events.body.len() / 8);
        let raw = std::mem::replace(&mut self.events.body, next);
        let status = std::mem::take(&mut self.events.count) as i32;
        self.events.flushed_ns = self.clock.monotonic_ns();
        self.notices.push(Notice { raw, status, ..Notice::new(NoticeKind::Events) });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_copied_as_they_are_written() {
        let headers =
            br#"{"task": "a.b", "id": "x", "shadow": null, "argsrepr": "(1, '\u00e9')", "retries": 2, "eta": null}"#;
        let members = ReceivedMembers::read(headers);
        assert_eq!(members.name, Some(&br#""a.b""#[..]));
        assert_eq!(members.args, Some(&br#""(1, '\u00e9')""#[..]));
        assert_eq!(members.retries, Some(&b"2"[..]));
        assert!(members.shadow.is_none() && members.eta.is_none() && members.kwargs.is_none());
    }

    #[test]
    fn a_list_is_json() {
        let mut batch = EventBatch::default();
        let settings = EventSettings { enabled: true, pid: 7, utc_offset_h: -2.0, silent_tasks: vec![3] };
        batch.configure(settings, "w@\"h\"");
        assert!(batch.wants(Some(0)) && !batch.wants(Some(3)) && !batch.wants(None));
        for clock in 1..3 {
            batch.open("task-started", "id");
            batch.member("result", Some("a\nb"));
            batch.close(clock, 12.5);
        }
        let expected = r#"[{"type":"task-started","uuid":"id","result":"a\nb","hostname":"w@\"h\"","utcoffset":-2.0,"pid":7,"clock":1,"timestamp":12.5},{"type":"task-started","uuid":"id","result":"a\nb","hostname":"w@\"h\"","utcoffset":-2.0,"pid":7,"clock":2,"timestamp":12.5}"#;
        assert_eq!(std::str::from_utf8(&batch.body).unwrap(), expected);
        assert_eq!(batch.count, 2);
    }
}
