//! A non-blocking AMQP connection: opening on a thread of its own, buffers, heartbeats.
//!
//! ```text
//!  Closed --open--> Opening --(handshake done)--> Open --(error, close)--> Closed
//!    ^-----------------'  (failed)
//! ```

use std::io::ErrorKind as Io;

use mio::{Registry, Token};

use super::handshake::{self, Opened, ServerInfo};
use crate::clock::MonotonicNs;
use crate::config::amqp::AmqpAddress;
use crate::error::{Error, ErrorKind, Result};
use crate::net::opening::Opening;
use crate::net::socket::Socket;
use crate::wire::amqp::HEARTBEAT_FRAME;

const READ_BYTES: usize = 256 << 10;
/// Input that is processed before the socket is read again.
const INPUT_MAX: usize = 4 << 20;

#[derive(Debug)]
enum State {
    Closed,
    Opening(Opening<Opened>),
    Open(Socket),
}

/// Bytes from the server that nobody decoded yet.
#[derive(Debug, Default)]
pub(super) struct Input {
    /// Initialised throughout; the bytes of `begin..end` are the server's.
    bytes: Vec<u8>,
    begin: usize,
    end: usize,
}

impl Input {
    /// What is there.
    pub(super) fn pending(&self) -> &[u8] {
        &self.bytes[self.begin..self.end]
    }

    /// Steps over decoded bytes.
    pub(super) fn consume(&mut self, count: usize) {
        self.begin += count;
    }

    fn make_room(&mut self) {
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
            if self.bytes.len() > 2 * INPUT_MAX {
                self.bytes = Vec::new();
            }
        }
        if self.bytes.len() - self.end >= READ_BYTES {
            return;
        }
        self.bytes.copy_within(self.begin..self.end, 0);
        self.end -= self.begin;
        self.begin = 0;
        if self.bytes.len() - self.end < READ_BYTES {
            self.bytes.resize(self.end + 2 * READ_BYTES, 0);
        }
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct AmqpConnection {
    state: State,
    pub(super) input: Input,
    /// Frames to be written are appended here.
    pub(super) output: Vec<u8>,
    written: usize,
    heartbeat_ns: MonotonicNs,
    last_heard_ns: MonotonicNs,
    last_sent_ns: MonotonicNs,
}

impl AmqpConnection {
    pub(super) fn new() -> Self {
        Self {
            state: State::Closed,
            input: Input::default(),
            output: Vec::new(),
            written: 0,
            heartbeat_ns: 0,
            last_heard_ns: 0,
            last_sent_ns: 0,
        }
    }

    /// Begins to open; `poll_opening` says how it ended.
    pub(super) fn open(
        &mut self,
        registry: &Registry,
        token: Token,
        address: AmqpAddress,
        now_ns: MonotonicNs,
    ) -> Result<()> {
        let limit_s = address.connect_timeout_s;
        let opening = Opening::start((registry, token), "broker", limit_s, now_ns, move || handshake::open(&address))?;
        self.state = State::Opening(opening);
        Ok(())
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    pub(super) fn is_opening(&self) -> bool {
        matches!(self.state, State::Opening(_))
    }

    /// How opening ended, if it has.
    pub(super) fn poll_opening(
        &mut self,
        registry: &Registry,
        token: Token,
        now_ns: MonotonicNs,
    ) -> Option<Result<ServerInfo>> {
        let State::Opening(opening) = &mut self.state else { return None };
        let outcome = opening.poll(now_ns)?;
        opening.end(registry);
        self.state = State::Closed;
        Some(outcome.and_then(|opened| self.adopt(opened, registry, token, now_ns)))
    }

    fn adopt(&mut self, opened: Opened, registry: &Registry, token: Token, now_ns: MonotonicNs) -> Result<ServerInfo> {
        opened.socket.set_nonblocking(true)?;
        self.state = State::Open(Socket::register(opened.socket, registry, token)?);
        self.input = Input { begin: 0, end: opened.unread.len(), bytes: opened.unread };
        self.output.clear();
        self.written = 0;
        self.heartbeat_ns = u64::from(opened.info.heartbeat_s) * 1_000_000_000;
        (self.last_heard_ns, self.last_sent_ns) = (now_ns, now_ns);
        Ok(opened.info)
    }

    /// Closes now.
    pub(super) fn close(&mut self, registry: &Registry) {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => {}
            State::Opening(mut opening) => opening.end(registry),
            State::Open(mut socket) => socket.deregister(registry),
        }
        self.input = Input::default();
        self.output = Vec::new();
        self.written = 0;
    }

    /// Reads what the socket has, up to a bound; true if there may be more.
    pub(super) fn fill(&mut self, now_ns: MonotonicNs) -> Result<bool> {
        let State::Open(socket) = &mut self.state else { return Ok(false) };
        loop {
            self.input.make_room();
            match socket.read(&mut self.input.bytes[self.input.end..]) {
                Ok(0) => return Err(Error::new(ErrorKind::Connection, "Server unexpectedly closed connection")),
                Ok(size) => {
                    self.last_heard_ns = now_ns;
                    self.input.end += size;
                    if self.input.pending().len() >= INPUT_MAX {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == Io::WouldBlock => return Ok(false),
                Err(error) if error.kind() == Io::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Writes as much as the socket takes.
    pub(super) fn flush(&mut self, now_ns: MonotonicNs) -> Result<()> {
        let State::Open(socket) = &mut self.state else { return Ok(()) };
        while self.written < self.output.len() {
            match socket.write(&self.output[self.written..]) {
                Ok(0) => return Err(std::io::Error::from(Io::WriteZero).into()),
                Ok(size) => {
                    self.written += size;
                    self.last_sent_ns = now_ns;
                }
                Err(error) if error.kind() == Io::WouldBlock => return Ok(()),
                Err(error) if error.kind() == Io::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if !self.output.is_empty() {
            self.output.clear();
            self.output.shrink_to(INPUT_MAX);
            self.written = 0;
        }
        match socket.flush() {
            Err(error) if error.kind() != Io::WouldBlock => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Sends a sign of life when it is time, and fails when the server gave none for two intervals.
    pub(super) fn keep_alive(&mut self, now_ns: MonotonicNs) -> Result<()> {
        if self.heartbeat_ns == 0 || !self.is_open() {
            return Ok(());
        }
        if now_ns.saturating_sub(self.last_heard_ns) >= 2 * self.heartbeat_ns {
            return Err(Error::new(ErrorKind::Connection, "Too many heartbeats missed"));
        }
        if now_ns.saturating_sub(self.last_sent_ns) >= self.heartbeat_ns / 2 && self.output.is_empty() {
            self.output.extend_from_slice(HEARTBEAT_FRAME);
        }
        Ok(())
    }

    /// Until when the server surely still holds our messages for us: it gives a client up that it has not heard for
    /// an interval, and we hear of that at the latest one interval later.
    pub(super) fn valid_until_ns(&self) -> MonotonicNs {
        match self.heartbeat_ns {
            0 => MonotonicNs::MAX,
            interval_ns => (self.last_sent_ns + interval_ns).min(self.last_heard_ns + 2 * interval_ns),
        }
    }

    /// When something must be done although nothing became ready.
    pub(super) fn deadline_ns(&self) -> Option<MonotonicNs> {
        match &self.state {
            State::Closed => None,
            State::Opening(opening) => Some(opening.deadline_ns()),
            State::Open(_) if self.heartbeat_ns == 0 => None,
            State::Open(_) => {
                let send_ns = self.last_sent_ns + self.heartbeat_ns / 2;
                // While the socket takes nothing there is nothing to send either.
                let send_ns = if self.output.is_empty() { send_ns } else { u64::MAX };
                Some(send_ns.min(self.last_heard_ns + 2 * self.heartbeat_ns))
            }
        }
    }
}
