//! From the children back: starts, result writes, ends.

use crate::broker::Settlement;
use crate::delivery::DeliveryState;
use crate::engine::jobs::{End, JobHandle};
use crate::engine::limits::{Limit, LimitKind};
use crate::engine::node::Node;
use crate::engine::notice::{Notice, Reason};
use crate::engine::writes::Write;
use crate::error::Result;
use crate::pool::frames::{ChildFrame, Outcome};
use crate::pool::parent::Handed;
use crate::results::{ResultWrite, StoreEvent};

/// Weight of the newest run time in a task's average, as a divisor.
const AVERAGE_DIVISOR: i64 = 8;

/// A child's frame, copied out of the link.
#[derive(Debug)]
enum Report {
    Store { sequence: u64, is_success: bool, key: Box<[u8]>, value: Box<[u8]> },
    Finish { sequence: u64, outcome: Outcome, runtime_s: f64, text: Box<[u8]> },
    Flush { number: u64 },
}

impl Report {
    /// Copies a frame; `keeps_texts` if Python may be shown the end of any task.
    fn of(frame: ChildFrame<'_>, keeps_texts: bool) -> Self {
        match frame {
            ChildFrame::Store { sequence, is_success, key, value } => {
                Report::Store { sequence, is_success, key: key.into(), value: value.into() }
            }
            ChildFrame::Finish { sequence, outcome, runtime_s, text } => {
                // Only what Python is shown needs its text.
                let is_shown = matches!(outcome, Outcome::Rejected | Outcome::RejectedRequeue | Outcome::Undecodable);
                let text = if is_shown || keeps_texts { text.into() } else { Box::default() };
                Report::Finish { sequence, outcome, runtime_s, text }
            }
            ChildFrame::Flush { number } => Report::Flush { number },
        }
    }
}

impl Node {
    /// Takes what all children did since the last turn.
    pub(super) fn collect_from_children(&mut self) {
        for index in 0..self.places.len() {
            self.collect_from(index);
        }
    }

    /// Takes what one child did. Starts come first, because a job starts before it ends.
    pub(super) fn collect_from(&mut self, index: usize) {
        let mut started: Vec<(Handed, u64)> = Vec::new();
        let keeps_texts = self.watches || self.events.is_on();
        loop {
            let Some(child) = &mut self.places[index].child else { return };
            child.link.collect_started(|handed, started_ns| started.push((handed, started_ns)));
            for (handed, started_ns) in started.drain(..) {
                self.on_started(index, handed, started_ns);
            }
            let Some(child) = &mut self.places[index].child else { return };
            match child.link.next_frame(|frame| Report::of(frame, keeps_texts)) {
                Ok(Some(report)) => self.on_report(index, report),
                Ok(None) => return,
                Err(error) => {
                    let pid = child.pid;
                    self.notices.push(Notice::log(40, format!("Killing child {pid}: {error}")));
                    crate::pool::supervisor::signal(pid, libc::SIGKILL);
                    return;
                }
            }
        }
    }

    fn on_started(&mut self, index: usize, handed: Handed, started_ns: u64) {
        self.counters.started += 1;
        self.tell_started(handed.job, started_ns);
        if let Some(child) = &mut self.places[index].child {
            child.started_tasks += 1;
            let limit = self.config.pool.max_tasks_per_child.map(u64::from);
            if limit.is_some_and(|limit| child.started_tasks >= limit) && !child.retiring {
                child.retiring = true;
                let _ = child.link.shut_down();
            }
        }
        let Some(job) = self.jobs.get_mut(handed.job) else { return };
        job.state = DeliveryState::Running;
        if let Some(task) = job.task {
            self.started_by_task[usize::from(task)] += 1;
        }
        let task = job.task.map(|task| &self.config.tasks[usize::from(task)]);
        let (message_hard, message_soft) = job.message_limits();
        let positive = |limit: Option<f64>| limit.filter(|seconds| *seconds > 0.0);
        let hard_s = positive(message_hard).or(positive(task.and_then(|task| task.time_limit_s)));
        let soft_s = positive(message_soft).or(positive(task.and_then(|task| task.soft_time_limit_s)));
        let acks_late = task.is_some_and(|task| task.acks_late);
        let watched = task.is_some_and(|task| task.watched);
        for (kind, seconds) in [(LimitKind::Soft, soft_s), (LimitKind::Hard, hard_s)] {
            if let Some(seconds) = seconds {
                self.limits.push(Limit::new(started_ns, seconds, handed.job, kind));
            }
        }
        if !acks_late {
            self.settle(handed.job, Some(Settlement::Ack));
        } else if job.held {
            self.ledger.on_late_started();
        }
        if let Some(job) = self.jobs.get_mut(handed.job) {
            job.started_ns = started_ns.max(1);
        }
        if watched {
            let pid = self.places[index].child.as_ref().map_or(0, |child| child.pid);
            self.announce(handed.job, Reason::Accepted, pid, 0, started_ns as f64 / 1e9);
        } else {
            // A watched task's own request tells it.
            self.event_started(handed.job);
        }
    }

    fn on_report(&mut self, index: usize, report: Report) {
        match report {
            Report::Store { sequence, is_success, key, value } => {
                self.on_store(index, sequence, is_success, key, value);
            }
            Report::Flush { number } => {
                if let Some(child) = &mut self.places[index].child {
                    child.pending_flush = Some(number);
                }
                self.complete_flush(index);
            }
            Report::Finish { sequence, outcome, runtime_s, text } => {
                let Some(child) = &mut self.places[index].child else { return };
                let Some(handed) = child.link.finished(sequence) else { return };
                self.ended += 1;
                match outcome {
                    Outcome::Success => self.counters.succeeded += 1,
                    Outcome::Failure | Outcome::InternalError => self.counters.failed += 1,
                    Outcome::Retry => self.counters.retried += 1,
                    Outcome::Ignored | Outcome::Rejected | Outcome::RejectedRequeue | Outcome::Undecodable => {
                        self.counters.other_outcomes += 1;
                    }
                }
                self.tell_ended(handed.job, outcome, runtime_s);
                self.on_run_time(handed.job, runtime_s);
                self.event_ended(handed.job, outcome, runtime_s, &text);
                if let Some(job) = self.jobs.get_mut(handed.job) {
                    job.end_text = text;
                }
                self.on_end(handed.job, End::Finished(outcome));
            }
        }
    }

    fn on_run_time(&mut self, handle: JobHandle, runtime_s: f64) {
        if !(0.0..1e9).contains(&runtime_s) {
            return;
        }
        self.ledger.on_run_time(runtime_s + 10e-6);
        let Some(task) = self.jobs.get(handle).and_then(|job| job.task) else { return };
        let average = &mut self.expected_ns[usize::from(task)];
        let newest = (runtime_s * 1e9) as i64;
        *average = match *average {
            0 => newest.max(1) as u64,
            old => (old as i64 + (newest - old as i64) / AVERAGE_DIVISOR).max(1) as u64,
        };
    }

    fn on_store(&mut self, index: usize, sequence: u64, is_success: bool, key: Box<[u8]>, value: Box<[u8]>) {
        let Some(child) = &mut self.places[index].child else { return };
        let job = child.link.handed().find(|handed| handed.sequence == sequence).map(|handed| handed.job);
        let Some(store) = &mut self.store else {
            self.notices.push(Notice::log(40, "A child wrote a result natively, but no result store is configured"));
            return;
        };
        child.pending_writes += 1;
        self.counters.result_writes += 1;
        if let Some(job) = job.and_then(|job| self.jobs.get_mut(job)) {
            job.pending_writes += 1;
        }
        let token = self.writes.insert(Write { child: index as u32, pid: child.pid, job });
        store.put(ResultWrite { token, key, value, is_success, protected: true });
    }

    /// Lets the result store do its I/O and takes the confirmations.
    pub(super) fn drive_store(&mut self, ready: &[mio::Token]) -> Result<()> {
        let Some(store) = &mut self.store else { return Ok(()) };
        let mut events = Vec::new();
        store.drive(self.poll.registry(), ready, self.clock.monotonic_ns(), &mut events)?;
        for event in events {
            match event {
                StoreEvent::Stored { token } => self.on_written(token, false),
                StoreEvent::Failed { token, error } => {
                    self.counters.result_failures += 1;
                    self.notices.push(Notice::log(40, format!("Cannot store a result: {error}")));
                    self.on_written(token, true);
                }
                StoreEvent::Disconnected { error, retry_in_s } => {
                    let text = format!("Result store unreachable: {error}. Retrying in {retry_in_s:.2} seconds.");
                    self.notices.push(Notice::log(40, text));
                }
                StoreEvent::Refused { error, retry_in_s } => {
                    let text = format!("Result store refuses writes: {error}. Retrying in {retry_in_s:.2} seconds.");
                    self.notices.push(Notice::log(30, text));
                }
                StoreEvent::GaveUp { error } => {
                    let text = format!("Result store unreachable: {error}. The next result tries again.");
                    self.notices.push(Notice::log(40, text));
                }
                StoreEvent::Connected => {}
            }
        }
        Ok(())
    }

    fn on_written(&mut self, token: u64, failed: bool) {
        let Some(write) = self.writes.remove(token) else { return };
        let place = &mut self.places[write.child as usize];
        if let Some(child) = place.child.as_mut().filter(|child| child.pid == write.pid) {
            child.pending_writes = child.pending_writes.saturating_sub(1);
            child.write_failed |= failed;
            self.complete_flush(write.child as usize);
        }
        let Some(handle) = write.job else { return };
        let Some(job) = self.jobs.get_mut(handle) else { return };
        job.pending_writes = job.pending_writes.saturating_sub(1);
        if job.pending_writes == 0 && job.end.is_some() {
            self.complete(handle);
        }
    }

    /// Answers a child that waits for its writes, once they are all in the store.
    fn complete_flush(&mut self, index: usize) {
        let Some(child) = &mut self.places[index].child else { return };
        if child.pending_writes > 0 {
            return;
        }
        if let Some(number) = child.pending_flush.take() {
            child.link.complete_flush(number, child.write_failed);
            child.write_failed = false;
            child.link.wake();
        }
    }

    /// The pool is finished with a job.
    pub(super) fn on_end(&mut self, handle: JobHandle, end: End) {
        self.release_events_after(handle);
        let Some(job) = self.jobs.get_mut(handle) else { return };
        job.end = Some(end);
        job.state = DeliveryState::Done;
        let watched = job.task.is_some_and(|task| self.config.tasks[usize::from(task)].watched);
        if job.pending_writes == 0 || (job.settled && !watched && matches!(end, End::Finished(Outcome::Success))) {
            self.complete(handle);
        }
    }

    /// Settles a job whose results are stored.
    fn complete(&mut self, handle: JobHandle) {
        let Some(job) = self.jobs.get_mut(handle) else { return };
        if job.awaits_verdict {
            return;
        }
        let Some(end) = job.end else { return };
        if job.announced {
            self.settle(handle, Some(Settlement::Ack));
            self.jobs.remove(handle);
            return;
        }
        let watched = job.task.is_some_and(|task| self.config.tasks[usize::from(task)].watched);
        let acks_on_failure = job.task.is_none_or(|task| self.config.tasks[usize::from(task)].acks_on_failure);
        let settlement = match end {
            End::Finished(outcome) if watched && outcome != Outcome::Undecodable => {
                return self.show_end(handle, Reason::Ended, 0, false);
            }
            End::Finished(Outcome::Success | Outcome::Retry | Outcome::Ignored) => Settlement::Ack,
            End::Finished(Outcome::Failure | Outcome::InternalError) if acks_on_failure => Settlement::Ack,
            End::Finished(Outcome::Failure | Outcome::InternalError) => Settlement::Reject,
            End::Finished(Outcome::Undecodable) => return self.show_end(handle, Reason::Undecodable, 0, false),
            End::Finished(Outcome::Rejected) => return self.show_end(handle, Reason::Rejected, 0, false),
            End::Finished(Outcome::RejectedRequeue) => return self.show_end(handle, Reason::Rejected, 0, true),
            End::Lost(status) => return self.show_end(handle, Reason::Lost, status, false),
        };
        self.settle(handle, Some(settlement));
        self.jobs.remove(handle);
    }

    /// Shows a job to Python that is or was in the pool.
    pub(super) fn show_end(&mut self, handle: JobHandle, reason: Reason, status: i32, requeue: bool) {
        self.show(handle, reason);
        let Some(job) = self.jobs.get(handle) else { return };
        let Some(place) = job.place else { return };
        let pid = self.places[place.child as usize].child.as_ref().map_or(0, |child| child.pid);
        if let Some(notice) = self.notices.last_mut() {
            notice.text = String::from_utf8_lossy(&job.end_text).into_owned();
            notice.status = status;
            notice.requeue = requeue;
            notice.index = place.child;
            notice.pid = pid;
        }
    }
}
