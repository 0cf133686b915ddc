//! The child's end of a link.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::time::Duration;

use super::channel::{self, Received};
use super::frames::{ChildFrame, JobFrame, Outcome};
use super::memory::LinkMemory;
use super::ring::{Consumer, Producer, largest_frame};
use super::slots::{self, SlotState};
use crate::clock::monotonic_ns;
use crate::error::{Error, ErrorKind, Result};

/// How long after its end a job that was signalled waits for the signal to take effect.
const SIGNAL_WAIT: Duration = Duration::from_secs(1);
/// How long an alerted child looks for its job before it sleeps again.
const ALERT_NS: u64 = 300_000;
/// How often an idle child looks for signals: one that came just before it fell asleep did not wake it.
const SIGNAL_CHECK_MS: i32 = 5000;
/// Pause between attempts while a ring is full or a signal is awaited.
const PAUSE: Duration = Duration::from_micros(50);

/// What came of looking for a job.
#[derive(Debug)]
pub enum Claim<T> {
    /// A job was claimed; the value is what the caller made of it.
    Job(T),
    /// None waits; `wait` for the next.
    Empty,
    /// None may start: the lease is stale, or the engine stopped this child.
    Held,
    /// The child shall end.
    Shutdown,
}

/// What came of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// Look again.
    Woken,
    /// Nothing came: a signal or the time ended the wait, or an announced job is late.
    Interrupted,
    /// The engine is gone.
    PeerGone,
}

/// The part of a child's end that a signal handler may use while the main thread is inside the other.
#[derive(Debug)]
pub struct RunningJob {
    memory: LinkMemory,
    /// Sequence of the claimed job, 0 if none.
    sequence: AtomicU64,
    /// The job's code is over: a soft limit that comes now is too late.
    finishing: AtomicBool,
    /// Nothing more is claimed.
    retired: AtomicBool,
    /// A signal's handler was called at a bad moment and will be called again.
    put_off: AtomicBool,
}

impl RunningJob {
    /// Whether the running job was marked for its soft limit and its code still runs; clears the mark.
    #[must_use]
    pub fn take_soft_limit(&self) -> bool {
        let sequence = self.sequence();
        let word = &self.memory.slot(sequence).word;
        sequence != 0
            && slots::swap(word, sequence, SlotState::SoftLimit, SlotState::Running)
            && !self.finishing.load(Ordering::SeqCst)
    }

    /// A signal is going to come again: the end of a job that is marked for one waits for it. Reset by the next call.
    pub fn set_put_off(&self, put_off: bool) {
        self.put_off.store(put_off, Ordering::Relaxed);
    }

    /// The claimed job, 0 if none.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::Relaxed)
    }

    /// Claims nothing more.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }
}

/// A child's end of its link.
#[derive(Debug)]
pub struct ChildEnd {
    job: Arc<RunningJob>,
    socket: OwnedFd,
    jobs: Consumer,
    outcomes: Producer,
    inbox: Inbox,
    flushes: u64,
    reported_up: bool,
}

/// What came through the socket.
#[derive(Debug, Default)]
struct Inbox {
    large: VecDeque<OwnedFd>,
    /// The engine said that a job is about to come.
    alert: bool,
    peer_gone: bool,
}

impl Inbox {
    fn receive(&mut self, socket: &OwnedFd) -> Result<()> {
        loop {
            match channel::receive(socket)? {
                Received::Packet(bytes, descriptors) => {
                    if bytes == channel::LARGE {
                        self.large.extend(descriptors);
                    }
                    self.alert |= bytes == channel::ALERT;
                }
                Received::Nothing => return Ok(()),
                Received::Closed => {
                    self.peer_gone = true;
                    return Ok(());
                }
            }
        }
    }
}

impl ChildEnd {
    /// Takes over the descriptors that came with the spawn command.
    pub fn open(memory: OwnedFd, socket: OwnedFd) -> Result<Self> {
        let memory = LinkMemory::open(memory)?;
        let header = memory.header();
        let jobs = Consumer::new(memory.jobs_data(), memory.capacity(), header.jobs_tail.load(Ordering::Acquire));
        let outcomes =
            Producer::new(memory.outcomes_data(), memory.capacity(), header.outcomes_head.load(Ordering::Acquire));
        let job = Arc::new(RunningJob {
            memory,
            sequence: AtomicU64::new(0),
            finishing: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            put_off: AtomicBool::new(false),
        });
        Ok(Self { job, socket, jobs, outcomes, inbox: Inbox::default(), flushes: 0, reported_up: false })
    }

    /// The part that signal handlers use.
    #[must_use]
    pub fn running_job(&self) -> Arc<RunningJob> {
        Arc::clone(&self.job)
    }

    /// Tells the engine, once, that this child is initialised and takes jobs.
    pub fn report_up(&mut self) -> Result<()> {
        if !self.reported_up {
            self.reported_up = true;
            channel::send(&self.socket, channel::UP, &[])?;
        }
        Ok(())
    }

    /// Claims the next job; `make` sees it in place.
    pub fn try_claim<T>(&mut self, make: impl FnOnce(&JobFrame<'_>) -> T) -> Result<Claim<T>> {
        if self.inbox.peer_gone || self.job.retired.load(Ordering::Relaxed) {
            return Ok(Claim::Shutdown);
        }
        loop {
            let header = self.job.memory.header();
            let Some(frame) = self.jobs.peek(&header.jobs_head)? else {
                let shutdown = header.shutdown.load(Ordering::Acquire) != 0;
                return Ok(if shutdown { Claim::Shutdown } else { Claim::Empty });
            };
            let frame_length = frame.len();
            let large;
            let bytes = if frame_length == 0 {
                // A held large job stays in `large`; nothing else is queued behind it meanwhile.
                if self.inbox.large.is_empty() {
                    self.inbox.receive(&self.socket)?;
                }
                let Some(descriptor) = self.inbox.large.front() else { return Ok(Claim::Empty) };
                large = channel::read_large(descriptor.try_clone()?)?;
                &large[..]
            } else {
                frame
            };
            let job = JobFrame::decode(bytes)?;
            let sequence = job.sequence;
            let slot = self.job.memory.slot(sequence);
            let state = slots::state_of(&slot.word, sequence);
            if state == SlotState::Ready {
                let now_ns = monotonic_ns();
                if now_ns >= header.start_deadline_ns.load(Ordering::Acquire) {
                    return Ok(Claim::Held);
                }
                slot.started_ns.store(now_ns, Ordering::Relaxed);
                if slots::swap(&slot.word, sequence, SlotState::Ready, SlotState::Running) {
                    let made = make(&job);
                    self.job.sequence.store(sequence, Ordering::Relaxed);
                    self.release_job(frame_length);
                    self.ring_engine();
                    return Ok(Claim::Job(made));
                }
            }
            // Taken back: skip it, and let the engine use the slot again.
            slots::set(&slot.word, sequence, SlotState::Empty);
            self.release_job(frame_length);
        }
    }

    fn release_job(&mut self, frame_length: usize) {
        if frame_length == 0 {
            self.inbox.large.pop_front();
        }
        self.jobs.release(frame_length, &self.job.memory.header().jobs_tail);
    }

    /// Sleeps until the engine rings, up to `timeout_ms`; with -1 until a job comes, or it is time to look for signals.
    pub fn wait(&mut self, timeout_ms: i32) -> Result<Waited> {
        if std::mem::take(&mut self.inbox.alert) && timeout_ms < 0 {
            // Signals that came meanwhile interrupted nothing: they are looked for before we sleep.
            return Ok(if self.watch_for_job() { Waited::Woken } else { Waited::Interrupted });
        }
        let header = self.job.memory.header();
        header.child_waiting.store(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        // With a time-out the caller is held although a job may wait: only time or a doorbell helps.
        let idle =
            timeout_ms >= 0 || (!self.jobs.has_frame(&header.jobs_head) && header.shutdown.load(Ordering::SeqCst) == 0);
        let longest_ms = if timeout_ms < 0 { SIGNAL_CHECK_MS } else { timeout_ms };
        let woken = if idle { channel::wait_readable(&self.socket, longest_ms) } else { true };
        header.child_waiting.store(0, Ordering::SeqCst);
        self.inbox.receive(&self.socket)?;
        Ok(match (self.inbox.peer_gone, woken) {
            (true, _) => Waited::PeerGone,
            (false, true) => Waited::Woken,
            (false, false) => Waited::Interrupted,
        })
    }

    /// Looks for the announced job without sleeping, for a moment; true if it came.
    fn watch_for_job(&self) -> bool {
        let header = self.job.memory.header();
        let begun_ns = monotonic_ns();
        while monotonic_ns() - begun_ns < ALERT_NS {
            if self.jobs.has_frame(&header.jobs_head) {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }

    fn ring_engine(&self) {
        fence(Ordering::SeqCst);
        if self.job.memory.header().engine_waiting.swap(0, Ordering::SeqCst) != 0 {
            // A full queue means that doorbells wait already; a closed socket is noticed by `wait`.
            let _ = channel::send(&self.socket, channel::DOORBELL, &[]);
        }
    }

    /// Appends a frame, waiting while the ring is full. The engine empties it without our help.
    fn push(&mut self, parts: &[&[u8]]) -> Result<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let is_large = length > largest_frame(self.job.memory.capacity());
        let parts = if is_large {
            if !channel::send_large(&self.socket, parts)? {
                return Err(Error::new(ErrorKind::Resource, "the pool socket does not take a large result"));
            }
            &[]
        } else {
            parts
        };
        loop {
            let header = self.job.memory.header();
            if self.outcomes.push(&header.outcomes_head, &header.outcomes_tail, parts) {
                self.ring_engine();
                return Ok(());
            }
            self.ring_engine();
            self.pause()?;
        }
    }

    fn pause(&mut self) -> Result<()> {
        std::thread::sleep(PAUSE);
        self.inbox.receive(&self.socket)?;
        if self.inbox.peer_gone {
            return Err(Error::new(ErrorKind::Connection, "the worker's main process is gone"));
        }
        Ok(())
    }

    /// Queues a result write.
    pub fn store(&mut self, sequence: u64, key: &[u8], value: &[u8], is_success: bool) -> Result<()> {
        let frame = ChildFrame::Store { sequence, is_success, key, value };
        let (header, length) = frame.header();
        self.push(&[&header[..length], key, value])
    }

    /// Asks for the completion of all writes so far; `flush_state` tells when it came.
    pub fn begin_flush(&mut self) -> Result<u64> {
        self.flushes += 1;
        let (header, length) = ChildFrame::Flush { number: self.flushes }.header();
        self.push(&[&header[..length]])?;
        Ok(self.flushes)
    }

    /// Whether a flush is complete; an error if one of its writes was refused.
    pub fn flush_state(&mut self, number: u64) -> Result<bool> {
        let header = self.job.memory.header();
        if header.flush_done.load(Ordering::Acquire) < number {
            return Ok(false);
        }
        if header.flush_failed.load(Ordering::Acquire) >= number {
            return Err(Error::new(ErrorKind::ServerRefused, "the result store refused a write"));
        }
        Ok(true)
    }

    /// Ends the claimed job. `interrupted` runs pending signal handlers and lets other threads run; it is called while
    /// the job is marked for a signal that has not come yet.
    pub fn finish(
        &mut self,
        sequence: u64,
        outcome: Outcome,
        runtime_s: f64,
        text: &[u8],
        mut interrupted: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        if sequence == 0 || sequence != self.job.sequence() {
            return Err(Error::new(ErrorKind::Internal, format!("job {sequence} is not the running one")));
        }
        self.job.finishing.store(true, Ordering::SeqCst);
        let ended_ns = monotonic_ns();
        loop {
            let word = &self.job.memory.slot(sequence).word;
            match slots::state_of(word, sequence) {
                SlotState::Running => {
                    if slots::swap(word, sequence, SlotState::Running, SlotState::Finishing) {
                        break;
                    }
                }
                state @ (SlotState::Doomed | SlotState::Signalled | SlotState::SoftLimit) => {
                    self.pause()?;
                    interrupted()?;
                    // One that is still to be sent is waited for however long that takes: it must not meet the next job.
                    let may_come = state == SlotState::Doomed || self.job.put_off.load(Ordering::Relaxed);
                    if !may_come && monotonic_ns() - ended_ns > SIGNAL_WAIT.as_nanos() as u64 {
                        // The signal was survived or ignored: the mark is void.
                        slots::swap(&self.job.memory.slot(sequence).word, sequence, state, SlotState::Running);
                    }
                }
                state => {
                    let text = format!("job {sequence} is {state:?} at its end");
                    return Err(Error::new(ErrorKind::Internal, text));
                }
            }
        }
        let frame = ChildFrame::Finish { sequence, outcome, runtime_s, text };
        let (header, length) = frame.header();
        self.push(&[&header[..length], text])?;
        self.job.sequence.store(0, Ordering::Relaxed);
        self.job.finishing.store(false, Ordering::SeqCst);
        Ok(())
    }
}
