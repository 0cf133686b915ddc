//! What the parent's Python side asks of the engine's thread.

use std::sync::mpsc::Sender;

use crate::engine::jobs::JobHandle;
use crate::engine::notice::{Content, Notice};
use crate::engine::operations::Operation;

/// Python's verdict on a delivery that was shown to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Acknowledge.
    Ack,
    /// Reject for good.
    Reject,
    /// Hand back.
    Requeue,
    /// Run it.
    Dispatch,
    /// Leave it to its lease.
    Abandon,
}

impl Verdict {
    /// The verdict of a name in Python.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "ack" => Verdict::Ack,
            "reject" => Verdict::Reject,
            "requeue" => Verdict::Requeue,
            "dispatch" => Verdict::Dispatch,
            "abandon" => Verdict::Abandon,
            _ => return None,
        })
    }
}

/// Which jobs a snapshot is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobsIn {
    /// Running.
    Active,
    /// Held, not started.
    Reserved,
    /// Waiting for their time.
    Scheduled,
}

/// A request to the engine's thread.
#[derive(Debug)]
pub enum Command {
    /// A verdict.
    Resolve(JobHandle, Verdict),
    /// New content of a shown delivery.
    Replace(JobHandle, Box<Content>),
    /// Run this in the pool; it is no message.
    Call(Box<Content>),
    /// Fetch nothing more and hand back what has not started.
    StopConsuming,
    /// End, with a limit in seconds for running tasks; answers how many still ran.
    Stop(Option<f64>, Sender<usize>),
    /// Signal the children that run these tasks; answers which ran.
    Terminate(Vec<String>, i32, Sender<Vec<String>>),
    /// Never start these.
    Revoke(Vec<String>),
    /// A change that an operator asks for.
    Operate(Box<Operation>),
    /// Answers a snapshot.
    Jobs(JobsIn, Sender<Vec<Notice>>),
    /// Answers the counters by name.
    Counters(Sender<Vec<(String, u64)>>),
    /// Answers (index, pid, tasks started) of the children.
    Children(Sender<Vec<(u32, i32, u64)>>),
}
