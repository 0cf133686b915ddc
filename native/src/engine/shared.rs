//! What the engine's thread and Python's threads share: two queues and their bells.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use mio::Waker;

use crate::engine::command::Command;
use crate::engine::notice::Notice;
use crate::error::{Error, Result};
use crate::probes::Figures;

/// Shared between the engine's thread and everybody else.
#[derive(Debug)]
pub struct Shared {
    commands: Mutex<Vec<Command>>,
    waker: Waker,
    notices: Mutex<VecDeque<Notice>>,
    bell: OwnedFd,
    /// The engine's thread is over: nobody reads commands any more.
    is_over: AtomicBool,
    /// The node's logical clock, moved by the engine's events and by Python.
    clock: AtomicU64,
    /// What the probes tell, if there are any; set before the engine's thread starts.
    pub figures: OnceLock<Arc<Figures>>,
}

impl Shared {
    /// Makes the queues; `waker` wakes the engine's poller.
    #[expect(unsafe_code, reason = "eventfd has no wrapper in std")]
    pub fn new(waker: Waker) -> Result<Self> {
        // SAFETY: a plain system call; the descriptor is checked and owned.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if descriptor < 0 {
            return Err(Error::from(std::io::Error::last_os_error()).context("making an event descriptor"));
        }
        // SAFETY: just made.
        let bell = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Ok(Self {
            commands: Mutex::default(),
            waker,
            notices: Mutex::default(),
            bell,
            is_over: AtomicBool::new(false),
            clock: AtomicU64::new(0),
            figures: OnceLock::new(),
        })
    }

    /// The logical clock as it stands.
    #[must_use]
    pub fn clock(&self) -> u64 {
        self.clock.load(Ordering::SeqCst)
    }

    /// Moves the logical clock by one and returns it.
    pub fn forward_clock(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Moves the logical clock past another node's (Lamport's rule) and returns it.
    pub fn adjust_clock(&self, other: u64) -> u64 {
        let later = |own: u64| Some(own.max(other).saturating_add(1));
        self.clock.fetch_update(Ordering::SeqCst, Ordering::SeqCst, later).map_or(0, |own| own.max(other) + 1)
    }

    /// Sends a command to the engine's thread.
    pub fn send(&self, command: Command) {
        let mut commands = lock(&self.commands);
        if self.is_over.load(Ordering::SeqCst) {
            // Dropping it drops the sender of its answer: whoever asks learns at once that there is none.
            return;
        }
        commands.push(command);
        drop(commands);
        // Fails only if the poller is gone, and then nobody reads the command either.
        let _ = self.waker.wake();
    }

    /// Says that nobody reads commands any more; what still waits for an answer learns it.
    pub fn close(&self) {
        let mut commands = lock(&self.commands);
        self.is_over.store(true, Ordering::SeqCst);
        commands.clear();
    }

    /// Takes the commands.
    pub fn take_commands(&self) -> Vec<Command> {
        std::mem::take(&mut *lock(&self.commands))
    }

    /// Puts notices in front of Python.
    pub fn notify(&self, notices: &mut Vec<Notice>) {
        if notices.is_empty() {
            return;
        }
        lock(&self.notices).extend(notices.drain(..));
        self.ring();
    }

    /// Makes a wait in progress return.
    #[expect(unsafe_code, reason = "write to an eventfd; must be callable from a signal handler")]
    pub fn ring(&self) {
        let one = 1u64;
        // SAFETY: eight bytes of a live integer; failure means the bell rings already.
        unsafe { libc::write(self.bell.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    /// Takes the notices and silences the bell.
    #[expect(unsafe_code, reason = "read from an eventfd")]
    pub fn take_notices(&self) -> VecDeque<Notice> {
        let mut count = 0u64;
        // SAFETY: eight bytes of a live integer; nothing to read means nothing rang.
        unsafe { libc::read(self.bell.as_raw_fd(), (&raw mut count).cast(), 8) };
        std::mem::take(&mut *lock(&self.notices))
    }

    /// The bell's descriptor.
    #[must_use]
    pub fn bell(&self) -> RawFd {
        self.bell.as_raw_fd()
    }

    /// Waits for the bell; false on time-out or a signal.
    #[expect(unsafe_code, reason = "poll")]
    #[must_use]
    pub fn wait(&self, timeout_ms: i32) -> bool {
        let mut entry = libc::pollfd { fd: self.bell.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid entry.
        unsafe { libc::poll(&mut entry, 1, timeout_ms) > 0 }
    }
}

/// A queue stays usable after a panic of its other user: pushing and taking keep it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
