//! What the engine tells the parent's Python side.

use crate::message::Envelope;

/// Why a delivery is shown to Python. The names are those of `Notice.reason` in `_native.pyi`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Not about a delivery.
    None,
    /// No such task is registered.
    UnknownTask,
    /// The envelope cannot be read; only the raw bytes are there.
    Malformed,
    /// The envelope is fine, a header that scheduling needs is not.
    InvalidTask,
    /// The child could not decode headers or body.
    Undecodable,
    /// Protocol 1: name and id are in the body.
    Protocol1,
    /// The task's lane wants a request object in the parent.
    ParentLane,
    /// Its time of expiry has passed.
    Expired,
    /// Revoked before it started.
    Revoked,
    /// Its child died.
    Lost,
    /// The soft time limit passed; for information.
    SoftTimeout,
    /// The hard time limit passed; the child is being killed.
    HardTimeout,
    /// Terminated by request.
    Terminated,
    /// The task raised `Reject`.
    Rejected,
    /// Delivered too often.
    TooManyDeliveries,
    /// A watched task was started; for information.
    Accepted,
    /// A watched task ended; its request settles it.
    Ended,
}

impl Reason {
    /// The name in Python.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::None => "",
            Reason::UnknownTask => "unknown_task",
            Reason::Malformed => "malformed",
            Reason::InvalidTask => "invalid_task",
            Reason::Undecodable => "undecodable",
            Reason::Protocol1 => "protocol1",
            Reason::ParentLane => "parent_lane",
            Reason::Expired => "expired",
            Reason::Revoked => "revoked",
            Reason::Lost => "lost",
            Reason::SoftTimeout => "soft_timeout",
            Reason::HardTimeout => "hard_timeout",
            Reason::Terminated => "terminated",
            Reason::Rejected => "rejected",
            Reason::TooManyDeliveries => "too_many_deliveries",
            Reason::Accepted => "accepted",
            Reason::Ended => "ended",
        }
    }
}

/// What a notice is about. The names are those of `Notice.kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeKind {
    /// Connected and consuming.
    Ready,
    /// The broker connection is gone.
    Disconnected,
    /// A child greeted.
    ChildStarted,
    /// A child ended.
    ChildExited,
    /// A task message came in; only if asked for.
    Received,
    /// A line for the log.
    Log,
    /// The engine has stopped.
    Stopped,
    /// A delivery for Python to look at.
    Delivery,
    /// Task events to publish: a JSON list in `raw`, their number in `status`.
    Events,
}

impl NoticeKind {
    /// The name in Python.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            NoticeKind::Ready => "ready",
            NoticeKind::Disconnected => "disconnected",
            NoticeKind::ChildStarted => "child_started",
            NoticeKind::ChildExited => "child_exited",
            NoticeKind::Received => "received",
            NoticeKind::Log => "log",
            NoticeKind::Stopped => "stopped",
            NoticeKind::Delivery => "delivery",
            NoticeKind::Events => "events",
        }
    }
}

/// The parts of a message, copied for Python.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// Task id.
    pub task_id: String,
    /// Task name.
    pub task_name: String,
    /// JSON object.
    pub headers: Vec<u8>,
    /// JSON object.
    pub properties: Vec<u8>,
    /// Body, base64 undone.
    pub body: Vec<u8>,
    /// Content type.
    pub content_type: String,
    /// Content encoding.
    pub content_encoding: String,
}

impl From<&Envelope> for Content {
    fn from(envelope: &Envelope) -> Self {
        Self {
            task_id: envelope.id().to_owned(),
            task_name: envelope.task().to_owned(),
            headers: envelope.headers().to_vec(),
            properties: envelope.properties().to_vec(),
            body: envelope.body().to_vec(),
            content_type: envelope.content_type().to_owned(),
            content_encoding: envelope.content_encoding().to_owned(),
        }
    }
}

/// One notice; fields that do not apply keep their defaults.
#[derive(Debug, Clone)]
pub struct Notice {
    /// What it is about.
    pub kind: NoticeKind,
    /// Why a delivery is shown.
    pub reason: Reason,
    /// Names the delivery in the answer, 0 if none is expected.
    pub handle: u64,
    /// Index of the registered task, -1 if unknown.
    pub task_index: i64,
    /// The message.
    pub content: Content,
    /// Delivered before.
    pub redelivered: bool,
    /// Name of the queue.
    pub queue: String,
    /// The bytes of an unreadable message.
    pub raw: Vec<u8>,
    /// Process id of the child concerned.
    pub pid: i32,
    /// Pool index of the child concerned.
    pub index: u32,
    /// Exit status or signal number.
    pub status: i32,
    /// A limit, a delay, a start time or an ETA.
    pub seconds: f64,
    /// Text for people.
    pub text: String,
    /// The task asked for a requeue.
    pub requeue: bool,
}

impl Notice {
    /// An otherwise empty notice.
    #[must_use]
    pub fn new(kind: NoticeKind) -> Self {
        Self {
            kind,
            reason: Reason::None,
            handle: 0,
            task_index: -1,
            content: Content::default(),
            redelivered: false,
            queue: String::new(),
            raw: Vec::new(),
            pid: 0,
            index: 0,
            status: 0,
            seconds: 0.0,
            text: String::new(),
            requeue: false,
        }
    }

    /// A log line; `level` is Python's number.
    #[must_use]
    pub fn log(level: i32, text: impl Into<String>) -> Self {
        Self { status: level, text: text.into(), ..Self::new(NoticeKind::Log) }
    }
}
