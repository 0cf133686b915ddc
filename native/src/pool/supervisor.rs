//! The engine's side of the fork server, and the watch over child processes.
//!
//! Children are forked by the fork server and re-parented to this process, a subreaper, so their deaths
//! are seen through process descriptors and reaped here.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::channel::{self, Received};
use super::parent::ParentEnd;
use crate::error::{Error, ErrorKind, Result};

/// The fork server and its spare.
#[derive(Debug)]
pub struct ForkServer {
    active: OwnedFd,
    spare: Option<OwnedFd>,
}

impl ForkServer {
    /// Takes over the socket of the fork server that the parent made, and asks it for a spare.
    pub fn new(active: OwnedFd) -> Result<Self> {
        channel::set_nonblocking(&active)?;
        let mut server = Self { active, spare: None };
        server.make_spare()?;
        Ok(server)
    }

    /// The active server's socket; readable when it died.
    #[must_use]
    pub fn socket(&self) -> RawFd {
        self.active.as_raw_fd()
    }

    fn make_spare(&mut self) -> Result<()> {
        let (ours, theirs) = channel::socket_pair()?;
        channel::set_nonblocking(&ours)?;
        if !channel::send(&self.active, b"spare\n", &[theirs.as_fd()])? {
            return Err(Error::new(ErrorKind::Resource, "the fork server does not take commands"));
        }
        self.spare = Some(ours);
        Ok(())
    }

    /// Asks for a child at the other end of a link. Its end of the socket is given away here: each link has one
    /// child at most, and if that child dies before it greets, or the fork server before it forks, the link's socket
    /// closes.
    pub fn spawn(&mut self, index: u32, link: &ParentEnd, child_socket: OwnedFd) -> Result<()> {
        let command = format!("spawn {index}\n");
        let descriptors = [link.memory_file(), child_socket.as_fd()];
        if channel::send(&self.active, command.as_bytes(), &descriptors)? {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Resource, "the fork server does not take commands"))
    }

    /// The spare's socket, if there is one; readable when it died.
    #[must_use]
    pub fn spare_socket(&self) -> Option<RawFd> {
        self.spare.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Whether the active server is gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        is_closed(&self.active)
    }

    /// Whether there is no living spare.
    #[must_use]
    pub fn spare_is_gone(&self) -> bool {
        self.spare.as_ref().is_none_or(is_closed)
    }

    /// Has the active server make a spare in the place of one that died.
    pub fn replace_spare(&mut self) -> Result<()> {
        self.spare = None;
        self.make_spare()
    }

    /// Puts the spare in the place of a server that died, and has it make a spare of its own.
    pub fn promote(&mut self) -> Result<()> {
        match self.spare.take() {
            Some(spare) => {
                self.active = spare;
                self.make_spare()
            }
            None => Err(Error::new(ErrorKind::Resource, "the fork server and its spare are gone")),
        }
    }
}

fn is_closed(socket: &OwnedFd) -> bool {
    loop {
        match channel::receive(socket) {
            Ok(Received::Packet(..)) => {}
            Ok(Received::Nothing) => return false,
            Ok(Received::Closed) | Err(_) => return true,
        }
    }
}

/// A descriptor that becomes readable when a process ends.
#[expect(unsafe_code, reason = "pidfd_open has no wrapper in libc")]
pub fn process_descriptor(pid: i32) -> Result<OwnedFd> {
    // SAFETY: a plain system call; the descriptor it returns is ours.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if descriptor < 0 {
        return Err(Error::from(io::Error::last_os_error()).context("watching a child process"));
    }
    // SAFETY: just made.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) })
}

/// The exit status of a dead child: its exit code, or minus the signal that ended it.
#[expect(unsafe_code, reason = "waitpid")]
#[must_use]
pub fn reap(pid: i32) -> Option<i32> {
    let mut status = 0;
    loop {
        // SAFETY: writes one integer.
        let result = unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) };
        if result == pid {
            break;
        }
        if result == 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return None;
        }
    }
    if libc::WIFSIGNALED(status) { Some(-libc::WTERMSIG(status)) } else { Some(libc::WEXITSTATUS(status)) }
}

/// Sends a signal; false if the process is gone.
#[expect(unsafe_code, reason = "kill")]
pub fn signal(pid: i32, number: i32) -> bool {
    // SAFETY: no memory is involved.
    pid > 0 && unsafe { libc::kill(pid, number) } == 0
}
