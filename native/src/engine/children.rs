//! The places of the pool and the children in them.

use std::os::fd::{AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use crate::clock::MonotonicNs;
use crate::error::Result;
use crate::pool::parent::ParentEnd;
use crate::pool::supervisor::{ForkServer, process_descriptor};

/// A child that dies sooner than this without having run anything is restarted with a delay.
const EARLY_DEATH_NS: u64 = 2_000_000_000;
/// Longest delay before a restart.
const RESTART_DELAY_MAX_NS: u64 = 10_000_000_000;

/// As many failed starts in a row, in every place, end the worker.
const FAILED_STARTS_MAX: u32 = 5;
/// Exit status of a child that made room for a fresh one.
const EXIT_RECYCLE: i32 = 0x9b;

/// First token of the children's descriptors.
const FIRST_TOKEN: usize = 64;

/// Which of a child's descriptors is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChildToken {
    /// Its socket.
    Socket(usize),
    /// Its process descriptor: it died.
    Process(usize),
}

impl ChildToken {
    /// The token's meaning, if it is one of the children's.
    #[must_use]
    pub(super) fn from_token(token: Token) -> Option<Self> {
        let offset = token.0.checked_sub(FIRST_TOKEN)?;
        Some(if offset % 2 == 0 { ChildToken::Socket(offset / 2) } else { ChildToken::Process(offset / 2) })
    }

    fn token(self) -> Token {
        match self {
            ChildToken::Socket(index) => Token(FIRST_TOKEN + index * 2),
            ChildToken::Process(index) => Token(FIRST_TOKEN + index * 2 + 1),
        }
    }
}

/// A child process and the engine's end of its link.
#[derive(Debug)]
pub(super) struct Child {
    /// The link.
    pub(super) link: ParentEnd,
    /// Process id, 0 before the greeting.
    pub(super) pid: i32,
    process: Option<OwnedFd>,
    /// It is initialised and takes jobs.
    pub(super) is_up: bool,
    /// When it is ended if it is not up by then.
    pub(super) up_until_ns: Option<MonotonicNs>,
    /// When it was asked for.
    pub(super) spawned_ns: MonotonicNs,
    /// Jobs it has claimed.
    pub(super) started_tasks: u64,
    /// No further job goes to it.
    pub(super) retiring: bool,
    /// Its result writes that are not confirmed.
    pub(super) pending_writes: u32,
    /// One of its writes was refused since the last flush.
    pub(super) write_failed: bool,
    /// The flush it waits for.
    pub(super) pending_flush: Option<u64>,
}

/// A place of the pool.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// Who is in it.
    pub(super) child: Option<Child>,
    /// When the next one is asked for.
    pub(super) respawn_at_ns: Option<MonotonicNs>,
    early_deaths: u32,
    /// Children in a row that ended with a failure before their first job.
    failed_starts: u32,
    /// The pool is smaller now: nobody comes after its child.
    pub(super) closing: bool,
}

impl Place {
    /// A place whose child is to be asked for at once.
    pub(super) fn wanted(now_ns: MonotonicNs) -> Self {
        Self { respawn_at_ns: Some(now_ns), ..Self::default() }
    }

    /// Asks the fork server for a child.
    pub(super) fn spawn(
        &mut self,
        index: usize,
        capacity: usize,
        server: &mut ForkServer,
        registry: &Registry,
        now_ns: MonotonicNs,
    ) -> Result<()> {
        let (link, child_socket) = ParentEnd::create(capacity)?;
        registry.register(&mut SourceFd(&link.socket()), ChildToken::Socket(index).token(), Interest::READABLE)?;
        server.spawn(index as u32, &link, child_socket)?;
        self.respawn_at_ns = None;
        self.child = Some(Child {
            link,
            pid: 0,
            process: None,
            is_up: false,
            up_until_ns: None,
            spawned_ns: now_ns,
            started_tasks: 0,
            retiring: false,
            pending_writes: 0,
            write_failed: false,
            pending_flush: None,
        });
        Ok(())
    }

    /// The child greeted: from now on its death is seen, and it has until `up_until_ns` to initialise itself.
    pub(super) fn on_greeting(
        &mut self,
        index: usize,
        pid: i32,
        registry: &Registry,
        up_until_ns: Option<MonotonicNs>,
    ) -> Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        let process = process_descriptor(pid)?;
        registry.register(
            &mut SourceFd(&process.as_raw_fd()),
            ChildToken::Process(index).token(),
            Interest::READABLE,
        )?;
        child.pid = pid;
        child.process = Some(process);
        child.up_until_ns = up_until_ns;
        Ok(())
    }

    /// Counts how a child ended; true if it failed before its first job.
    pub(super) fn note_end(&mut self, child: &Child, status: i32) -> bool {
        let failed = match status {
            0 | EXIT_RECYCLE => false,
            // A child that somebody killed says nothing about the next one.
            code if code < 0 => {
                [libc::SIGSEGV, libc::SIGABRT, libc::SIGBUS, libc::SIGILL, libc::SIGFPE].contains(&-code)
            }
            _ => true,
        };
        let failed_to_start = failed && child.started_tasks == 0;
        self.failed_starts = if failed_to_start { self.failed_starts + 1 } else { 0 };
        failed_to_start
    }

    /// Whether nothing suggests that a child can be started here.
    #[must_use]
    pub(super) fn is_hopeless(&self) -> bool {
        let works = self.child.as_ref().is_some_and(|child| child.started_tasks > 0);
        self.failed_starts >= FAILED_STARTS_MAX && !works
    }

    /// Takes the dead child out and says when its successor may come.
    pub(super) fn vacate(&mut self, registry: &Registry, now_ns: MonotonicNs) -> Option<Child> {
        let child = self.child.take()?;
        // The descriptors close right after; an error here would only say that they are closed already.
        let _ = registry.deregister(&mut SourceFd(&child.link.socket()));
        if let Some(process) = &child.process {
            let _ = registry.deregister(&mut SourceFd(&process.as_raw_fd()));
        }
        if child.started_tasks == 0 && now_ns.saturating_sub(child.spawned_ns) < EARLY_DEATH_NS {
            self.early_deaths = (self.early_deaths + 1).min(16);
        } else {
            self.early_deaths = 0;
        }
        let delay_ns = match self.early_deaths {
            0 => 0,
            count => (100_000_000u64 << count.min(10)).min(RESTART_DELAY_MAX_NS),
        };
        self.respawn_at_ns = (!self.closing).then_some(now_ns + delay_ns);
        Some(child)
    }
}
