//! The engine's end of a link.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{Ordering, fence};

use super::channel::{self, Received};
use super::frames::{ChildFrame, JobFrame};
use super::memory::LinkMemory;
use super::ring::{Consumer, Producer, largest_frame};
use super::slots::{self, SlotState};
use crate::clock::MonotonicNs;
use crate::error::Result;

/// A job in a link, from hand-over to outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handed {
    /// Number within the link.
    pub sequence: u64,
    /// The engine's name for the job.
    pub job: u64,
    /// How long it is expected to run.
    pub expected_ns: u64,
    started: bool,
}

/// What the child's socket said since it was last asked. Doorbells say nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heard {
    /// The child lives and has this process id.
    pub pid: Option<i32>,
    /// The child is initialised and takes jobs.
    pub is_up: bool,
    /// Nobody holds the child's end any more.
    pub is_closed: bool,
}

/// What was in a link when its child died.
#[derive(Debug, Default)]
pub struct Remains {
    /// The job that was being run, if any.
    pub running: Option<Handed>,
    /// Jobs that were not started, in order.
    pub unstarted: Vec<Handed>,
}

/// The engine's end of one child's link.
#[derive(Debug)]
pub struct ParentEnd {
    memory: LinkMemory,
    socket: OwnedFd,
    jobs: Producer,
    outcomes: Consumer,
    large: VecDeque<OwnedFd>,
    heard: Heard,
    next_sequence: u64,
    handed: VecDeque<Handed>,
    /// How many of `handed`, from the front, are known to be started.
    started: usize,
    expected_ns: u64,
    rang: bool,
}

impl ParentEnd {
    /// Makes a link; the returned descriptor is the child's end of the socket.
    pub fn create(capacity: usize) -> Result<(Self, OwnedFd)> {
        let memory = LinkMemory::create(capacity)?;
        let (socket, child_socket) = channel::socket_pair()?;
        channel::set_nonblocking(&socket)?;
        let jobs = Producer::new(memory.jobs_data(), capacity, 0);
        let outcomes = Consumer::new(memory.outcomes_data(), capacity, 0);
        let end = Self {
            memory,
            socket,
            jobs,
            outcomes,
            large: VecDeque::new(),
            heard: Heard::default(),
            next_sequence: 1,
            handed: VecDeque::new(),
            started: 0,
            expected_ns: 0,
            rang: false,
        };
        Ok((end, child_socket))
    }

    /// The memory file, to be passed to the child.
    #[must_use]
    pub fn memory_file(&self) -> BorrowedFd<'_> {
        self.memory.file().as_fd()
    }

    /// The socket, for the poller.
    #[must_use]
    pub fn socket(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Hands a job over; false when the link has no room. `make` gets the sequence for the frame.
    pub fn hand_over(&mut self, frame: &JobFrame<'_>, job: u64, expected_ns: u64) -> Result<bool> {
        let sequence = self.next_sequence;
        let slot = self.memory.slot(sequence);
        // A slot is free again when its former job was finished or skipped by the child.
        if !slots::is_free(&slot.word) {
            return Ok(false);
        }
        let frame = JobFrame { sequence, ..*frame };
        let head = frame.header();
        let parts: [&[u8]; 6] =
            [&head, frame.headers, frame.properties, frame.body, frame.content_type, frame.content_encoding];
        let header = self.memory.header();
        if frame.len() > largest_frame(self.memory.capacity()) {
            // One large job at a time, and only to a child that can start it next.
            if !self.handed.is_empty() || !self.jobs.has_room(&header.jobs_tail, 0) {
                return Ok(false);
            }
            if !channel::send_large(&self.socket, &parts)? {
                return Ok(false);
            }
            slots::set(&slot.word, sequence, SlotState::Ready);
            self.jobs.push(&header.jobs_head, &header.jobs_tail, &[]);
        } else {
            if !self.jobs.has_room(&header.jobs_tail, frame.len()) {
                return Ok(false);
            }
            slots::set(&slot.word, sequence, SlotState::Ready);
            self.jobs.push(&header.jobs_head, &header.jobs_tail, &parts);
        }
        self.next_sequence += 1;
        self.handed.push_back(Handed { sequence, job, expected_ns, started: false });
        self.expected_ns += expected_ns;
        self.rang = false;
        Ok(true)
    }

    /// Wakes the child if it sleeps and something was handed over since.
    pub fn ring(&mut self) -> Result<()> {
        fence(Ordering::SeqCst);
        if !self.rang && self.memory.header().child_waiting.swap(0, Ordering::SeqCst) != 0 {
            channel::send(&self.socket, channel::DOORBELL, &[])?;
        }
        self.rang = true;
        Ok(())
    }

    /// Wakes a child that sleeps for a job which is expected at once, so that it wakes while the job is being fetched.
    pub fn alert(&mut self) {
        if self.memory.header().child_waiting.swap(0, Ordering::SeqCst) != 0 {
            // As with every doorbell: a closed socket means that the child died.
            let _ = channel::send(&self.socket, channel::ALERT, &[]);
        }
    }

    /// Wakes the child whatever it was handed (a flush is complete).
    pub fn wake(&mut self) {
        // A full queue means that doorbells wait already; a closed socket means that the child died.
        let _ = channel::send(&self.socket, channel::DOORBELL, &[]);
    }

    /// Says that the engine is about to sleep, or is awake.
    pub fn set_waiting(&self, waiting: bool) {
        self.memory.header().engine_waiting.store(u32::from(waiting), Ordering::SeqCst);
    }

    /// Whether the child did anything that the engine has not seen.
    #[must_use]
    pub fn has_news(&self) -> bool {
        if self.outcomes.has_frame(&self.memory.header().outcomes_head) {
            return true;
        }
        self.handed.get(self.started).is_some_and(|next| self.state_of(next.sequence) != SlotState::Ready)
    }

    fn state_of(&self, sequence: u64) -> SlotState {
        slots::state_of(&self.memory.slot(sequence).word, sequence)
    }

    /// Calls `on_start` with each job that the child claimed since the last call, and when.
    pub fn collect_started(&mut self, mut on_start: impl FnMut(Handed, MonotonicNs)) {
        while let Some(next) = self.handed.get_mut(self.started) {
            let slot = self.memory.slot(next.sequence);
            if slots::state_of(&slot.word, next.sequence) == SlotState::Ready {
                return;
            }
            next.started = true;
            let handed = *next;
            self.started += 1;
            on_start(handed, slot.started_ns.load(Ordering::Relaxed));
        }
    }

    /// Takes the child's next frame, if there is one; `on_frame` sees it in place.
    pub fn next_frame<T>(&mut self, on_frame: impl FnOnce(ChildFrame<'_>) -> T) -> Result<Option<T>> {
        let header = self.memory.header();
        let Some(frame) = self.outcomes.peek(&header.outcomes_head)? else { return Ok(None) };
        let length = frame.len();
        let result = if length == 0 {
            let descriptor = match self.large.pop_front() {
                Some(descriptor) => descriptor,
                None => {
                    Self::receive_packets(&self.socket, &mut self.large, &mut self.heard)?;
                    match self.large.pop_front() {
                        Some(descriptor) => descriptor,
                        // Its packet was sent before the ring frame, so this is a damaged link.
                        None => {
                            return Err(crate::error::Error::new(
                                crate::error::ErrorKind::Internal,
                                "a pool link is damaged: a large frame is missing",
                            ));
                        }
                    }
                }
            };
            let bytes = channel::read_large(descriptor)?;
            on_frame(ChildFrame::decode(&bytes)?)
        } else {
            on_frame(ChildFrame::decode(frame)?)
        };
        self.outcomes.release(length, &header.outcomes_tail);
        Ok(Some(result))
    }

    /// Forgets a finished job. Jobs finish in order, so it is the first that is still here.
    pub fn finished(&mut self, sequence: u64) -> Option<Handed> {
        let position = self.handed.iter().position(|handed| handed.sequence == sequence)?;
        let handed = self.handed.remove(position)?;
        if position < self.started {
            self.started -= 1;
        }
        self.expected_ns = self.expected_ns.saturating_sub(handed.expected_ns);
        slots::set(&self.memory.slot(sequence).word, sequence, SlotState::Empty);
        Some(handed)
    }

    /// Takes back the job handed over last, if the child has not claimed it.
    pub fn take_back(&mut self) -> Option<Handed> {
        let last = *self.handed.back()?;
        let word = &self.memory.slot(last.sequence).word;
        if last.started || !slots::swap(word, last.sequence, SlotState::Ready, SlotState::Taken) {
            return None;
        }
        self.handed.pop_back();
        self.expected_ns = self.expected_ns.saturating_sub(last.expected_ns);
        Some(last)
    }

    /// Marks a job for a signal that ends it; true if it runs now. Its end waits from now on until
    /// [`Self::signalled`] was called.
    #[must_use]
    pub fn doom(&self, sequence: u64) -> bool {
        let word = &self.memory.slot(sequence).word;
        // One that was signalled before has survived it so far.
        [SlotState::Running, SlotState::SoftLimit, SlotState::Signalled]
            .into_iter()
            .any(|state| slots::swap(word, sequence, state, SlotState::Doomed))
    }

    /// Says that a doomed job's child has its signal.
    pub fn signalled(&self, sequence: u64) {
        slots::swap(&self.memory.slot(sequence).word, sequence, SlotState::Doomed, SlotState::Signalled);
    }

    /// Marks a job for the soft limit's signal; true if it runs now.
    #[must_use]
    pub fn mark_soft_limit(&self, sequence: u64) -> bool {
        slots::swap(&self.memory.slot(sequence).word, sequence, SlotState::Running, SlotState::SoftLimit)
    }

    /// Sets until when jobs may be claimed.
    pub fn set_start_deadline(&self, deadline_ns: MonotonicNs) {
        self.memory.header().start_deadline_ns.store(deadline_ns, Ordering::Release);
    }

    /// Answers a flush.
    pub fn complete_flush(&self, number: u64, failed: bool) {
        let header = self.memory.header();
        if failed {
            header.flush_failed.store(number, Ordering::Release);
        }
        header.flush_done.store(number, Ordering::Release);
    }

    /// Tells the child to end when it has nothing claimed.
    pub fn shut_down(&mut self) -> Result<()> {
        self.memory.header().shutdown.store(1, Ordering::SeqCst);
        self.rang = false;
        self.ring()
    }

    /// Empties the socket: doorbells, the greeting, large frames. What was heard before a failure is not lost.
    pub fn drain_socket(&mut self) -> Result<Heard> {
        Self::receive_packets(&self.socket, &mut self.large, &mut self.heard)?;
        Ok(std::mem::take(&mut self.heard))
    }

    fn receive_packets(socket: &OwnedFd, large: &mut VecDeque<OwnedFd>, heard: &mut Heard) -> Result<()> {
        loop {
            match channel::receive(socket)? {
                Received::Packet(bytes, descriptors) => {
                    if bytes == channel::LARGE {
                        large.extend(descriptors);
                    } else if bytes == channel::UP {
                        heard.is_up = true;
                    } else if let [channel::GREETING, pid @ ..] = &bytes[..]
                        && let Ok(pid) = <[u8; 8]>::try_from(pid)
                    {
                        heard.pid = Some(i64::from_le_bytes(pid) as i32);
                    }
                }
                Received::Nothing => return Ok(()),
                Received::Closed => {
                    heard.is_closed = true;
                    return Ok(());
                }
            }
        }
    }

    /// After the child's death, and after its last frames were taken: what it left behind.
    #[must_use]
    pub fn remains(&mut self) -> Remains {
        let mut remains = Remains::default();
        for handed in std::mem::take(&mut self.handed) {
            match self.state_of(handed.sequence) {
                SlotState::Running
                | SlotState::SoftLimit
                | SlotState::Doomed
                | SlotState::Signalled
                | SlotState::Finishing => remains.running = Some(handed),
                SlotState::Ready => remains.unstarted.push(handed),
                SlotState::Empty | SlotState::Taken => {}
            }
        }
        self.started = 0;
        self.expected_ns = 0;
        remains
    }

    /// Jobs in the link, started or not.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.handed.len()
    }

    /// Jobs known to be unstarted; some may have been claimed meanwhile.
    #[must_use]
    pub fn unstarted(&self) -> usize {
        self.handed.len() - self.started
    }

    /// How long the link's jobs are expected to run together.
    #[must_use]
    pub fn expected_ns(&self) -> u64 {
        self.expected_ns
    }

    /// The jobs in the link, oldest first.
    pub fn handed(&self) -> impl Iterator<Item = &Handed> {
        self.handed.iter()
    }
}
