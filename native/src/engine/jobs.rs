//! The table of deliveries that the node holds in full.

use crate::broker::{DeliveryTag, Undecodable};
use crate::clock::MonotonicNs;
use crate::delivery::DeliveryState;
use crate::engine::notice::{Content, Reason};
use crate::message::Envelope;
use crate::pool::frames::Outcome;

/// Names a job; its upper half changes when the place is used again, so a stale name finds nothing.
pub(super) type JobHandle = u64;

/// What a message consists of.
#[derive(Debug)]
pub(super) enum Message {
    /// Readable.
    Envelope(Box<Envelope>),
    /// Unreadable.
    Undecodable(Box<Undecodable>),
}

/// Where a job is in the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Pool index of the child.
    pub(super) child: u32,
    /// Number within its link.
    pub(super) sequence: u64,
}

/// How the pool was finished with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The child reported.
    Finished(Outcome),
    /// The child died with this exit status.
    Lost(i32),
}

/// One delivery.
#[derive(Debug)]
pub(super) struct Job {
    /// The message.
    pub(super) message: Message,
    /// Its name at the broker.
    pub(super) tag: DeliveryTag,
    /// Index of its queue.
    pub(super) queue: u16,
    /// Index of its task, `None` if unknown.
    pub(super) task: Option<u16>,
    /// Where it is.
    pub(super) state: DeliveryState,
    /// What it weighs in the ledger.
    pub(super) size_bytes: u32,
    /// When it came.
    pub(super) received_ns: MonotonicNs,
    /// How often it was handed out before.
    pub(super) deliveries: u32,
    /// Wall-clock time after which it must not start.
    pub(super) expires_s: Option<f64>,
    /// Its end was handed to the broker, or will be by nobody.
    pub(super) settled: bool,
    /// Counts in the ledger as held.
    pub(super) held: bool,
    /// Where it runs or waits in the pool.
    pub(super) place: Option<Place>,
    /// When the child claimed it; 0 before.
    pub(super) started_ns: MonotonicNs,
    /// Result writes not confirmed.
    pub(super) pending_writes: u32,
    /// How the pool was finished with it.
    pub(super) end: Option<End>,
    /// Python was told of its forced end already.
    pub(super) announced: bool,
    /// What the child said about an end that Python is shown: the exception's repr.
    pub(super) end_text: Box<[u8]>,
    /// Python's verdict is outstanding.
    pub(super) awaits_verdict: bool,
    /// The parent lane has seen it.
    pub(super) shown: bool,
    /// Why Python was shown it last.
    pub(super) reason: Reason,
    /// Python wants it run although the engine holds it for expired or revoked.
    pub(super) cleared: bool,
    /// Its child is to be ended as soon as Python has dealt with its forced end.
    pub(super) ends_on_verdict: bool,
}

impl Job {
    /// The parts of the message as bytes and texts.
    #[must_use]
    pub(super) fn content(&self) -> Content {
        match &self.message {
            Message::Envelope(envelope) => Content::from(&**envelope),
            Message::Undecodable(_) => Content::default(),
        }
    }

    /// The task id, empty if unreadable.
    #[must_use]
    pub(super) fn id(&self) -> &str {
        match &self.message {
            Message::Envelope(envelope) => envelope.id(),
            Message::Undecodable(_) => "",
        }
    }

    /// Hard and soft limit that the message itself carries, in seconds.
    #[must_use]
    pub(super) fn message_limits(&self) -> (Option<f64>, Option<f64>) {
        match &self.message {
            Message::Envelope(envelope) => (envelope.hard_time_limit_s(), envelope.soft_time_limit_s()),
            Message::Undecodable(_) => (None, None),
        }
    }

    /// Whether it was delivered before.
    #[must_use]
    pub(super) fn redelivered(&self) -> bool {
        self.deliveries > 0
            || match &self.message {
                Message::Envelope(envelope) => envelope.redelivered(),
                Message::Undecodable(_) => false,
            }
    }

    /// Whether it carries stamps.
    #[must_use]
    pub(super) fn has_stamps(&self) -> bool {
        match &self.message {
            Message::Envelope(envelope) => envelope.has_stamps(),
            Message::Undecodable(_) => false,
        }
    }

    /// Whether a child runs it now, as far as the engine has seen.
    #[must_use]
    pub(super) fn is_running(&self) -> bool {
        self.started_ns != 0 && self.end.is_none()
    }
}

/// Jobs by handle.
#[derive(Debug, Default)]
pub(super) struct JobTable {
    entries: Vec<(u32, Option<Job>)>,
    free: Vec<u32>,
}

impl JobTable {
    /// Adds a job.
    pub(super) fn insert(&mut self, job: Job) -> JobHandle {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.entries.push((1, None));
                (self.entries.len() - 1) as u32
            }
        };
        let entry = &mut self.entries[index as usize];
        entry.1 = Some(job);
        (u64::from(entry.0) << 32) | u64::from(index)
    }

    /// The job of a handle, if it is still there.
    pub(super) fn get_mut(&mut self, handle: JobHandle) -> Option<&mut Job> {
        let (generation, job) = self.entries.get_mut((handle & 0xffff_ffff) as usize)?;
        if u64::from(*generation) == handle >> 32 { job.as_mut() } else { None }
    }

    /// The job of a handle, if it is still there.
    #[must_use]
    pub(super) fn get(&self, handle: JobHandle) -> Option<&Job> {
        let (generation, job) = self.entries.get((handle & 0xffff_ffff) as usize)?;
        if u64::from(*generation) == handle >> 32 { job.as_ref() } else { None }
    }

    /// Takes a job out.
    pub(super) fn remove(&mut self, handle: JobHandle) -> Option<Job> {
        let index = (handle & 0xffff_ffff) as u32;
        let (generation, job) = self.entries.get_mut(index as usize)?;
        if u64::from(*generation) != handle >> 32 {
            return None;
        }
        let job = job.take()?;
        *generation = generation.wrapping_add(1).max(1);
        self.free.push(index);
        Some(job)
    }

    /// All jobs.
    pub(super) fn iter(&self) -> impl Iterator<Item = (JobHandle, &Job)> {
        self.entries.iter().enumerate().filter_map(|(index, (generation, job))| {
            job.as_ref().map(|job| ((u64::from(*generation) << 32) | index as u64, job))
        })
    }
}
