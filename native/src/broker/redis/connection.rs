//! A non-blocking Redis connection, used alike by the broker, the result store and the publisher.
//!
//! # Use
//!
//! ```text
//! let mut connection = RedisConnection::<MyRequest>::new(address, "results");
//! connection.open(registry, token, now_ns)?;            // returns at once
//! connection.drive(registry, ready, now_ns, &mut events);  // whenever the token is ready or time passed
//!   -> Event::Opened(server)                            // from now on `send` works
//! connection.send(MyRequest::Set(7), now_ns, |out| write_command(out, &[b"SET", key, value]));
//! connection.drive(..)                                  // writes, reads
//!   -> Event::Reply { request: MyRequest::Set(7), reply }   // in the order sent; may be Frame::Error
//!   -> Event::Push(items)                               // RESP3 pushes
//!   -> Event::Closed { error, unanswered }              // what was sent and not answered, in order
//! ```
//!
//! `R` is whatever the owner needs to know again when the answer comes. After `Closed` the connection is
//! back where it began: `open` again, when and if the owner's retry rule says so. Opening happens on a
//! short-lived thread (names resolve and handshakes run blocking there); the poller sees one token
//! throughout. The poller is edge-triggered, so `drive` reads until the socket is empty.
//!
//! ```text
//!  Closed --open--> Opening --(handshake done)--> Open --(error, timeout, close)--> Closed
//!    ^-----------------'  (failed)
//! ```

use std::collections::VecDeque;

use mio::{Registry, Token};

use super::buffer::{ReadBuffer, ReadEnd, WriteBuffer};
use super::handshake::{self, Opened, ServerInfo};
use super::sentinel::Watch;
use crate::clock::MonotonicNs;
use crate::config::RedisAddress;
use crate::error::{Error, ErrorKind, Result};
use crate::net::opening::Opening;
use crate::net::socket::Socket;
use crate::wire::resp::{Frame, write_command};

/// What happened on a connection.
#[derive(Debug)]
pub(crate) enum Event<R> {
    /// Ready for commands.
    Opened(ServerInfo),
    /// The answer to a command; a server's error is a `Frame::Error`.
    Reply {
        /// What `send` was given.
        request: R,
        /// The answer.
        reply: Frame,
    },
    /// An out-of-band message.
    Push(Vec<Frame>),
    /// Gone, or never came to be.
    Closed {
        /// Why.
        error: Error,
        /// Commands without an answer; the server may have run any of them.
        unanswered: Vec<R>,
    },
}

/// A command whose answer is still to come; `None` is our own ping.
#[derive(Debug)]
struct Expected<R> {
    request: Option<R>,
    sent_ns: MonotonicNs,
}

#[derive(Debug)]
enum State {
    Closed,
    Opening(Opening<Opened>),
    Open(Socket),
}

/// One connection. See the module's text.
#[derive(Debug)]
pub(crate) struct RedisConnection<R> {
    address: RedisAddress,
    purpose: &'static str,
    token: Token,
    state: State,
    input: ReadBuffer,
    output: WriteBuffer,
    expected: VecDeque<Expected<R>>,
    last_heard_ns: MonotonicNs,
    /// Beside an open connection to a primary that Sentinel named.
    watch: Option<Watch>,
}

impl<R> RedisConnection<R> {
    /// A closed connection. `purpose` names it in errors and threads.
    pub(crate) fn new(address: RedisAddress, purpose: &'static str) -> Self {
        Self {
            address,
            purpose,
            token: Token(usize::MAX),
            state: State::Closed,
            input: ReadBuffer::default(),
            output: WriteBuffer::default(),
            expected: VecDeque::new(),
            last_heard_ns: 0,
            watch: None,
        }
    }

    /// Begins to open; `drive` reports how it ended. Does nothing unless closed.
    pub(crate) fn open(&mut self, registry: &Registry, token: Token, now_ns: MonotonicNs) -> Result<()> {
        if !matches!(self.state, State::Closed) {
            return Ok(());
        }
        let address = self.address.clone();
        let limit_s = handshake::limit_s(&self.address);
        let opening =
            Opening::start((registry, token), self.purpose, limit_s, now_ns, move || handshake::open(&address))?;
        self.token = token;
        self.state = State::Opening(opening);
        Ok(())
    }

    /// Whether commands can be sent.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Whether neither open nor opening.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Answers still to come.
    pub(crate) fn unanswered(&self) -> usize {
        self.expected.len()
    }

    /// Queues exactly one command, which `encode` appends; `drive` writes it. Call only while open.
    pub(crate) fn send(&mut self, request: R, now_ns: MonotonicNs, encode: impl FnOnce(&mut Vec<u8>)) {
        self.send_request(request, now_ns, |_, out| encode(out));
    }

    /// As `send`, for owners whose requests say themselves how they are written.
    pub(crate) fn send_request(&mut self, request: R, now_ns: MonotonicNs, encode: impl FnOnce(&R, &mut Vec<u8>)) {
        debug_assert!(self.is_open(), "a command was sent on a closed connection");
        encode(&request, &mut self.output.bytes);
        self.expected.push_back(Expected { request: Some(request), sent_ns: now_ns });
    }

    /// Writes and reads as far as the socket allows. `ready` says whether the token became ready.
    pub(crate) fn drive(&mut self, registry: &Registry, ready: bool, now_ns: MonotonicNs, events: &mut Vec<Event<R>>) {
        let outcome = match &mut self.state {
            State::Closed => return,
            State::Opening(_) => self.drive_opening(registry, now_ns, events),
            State::Open(_) => self.drive_open(ready, now_ns, events),
        };
        if let Err(error) = outcome {
            self.fail(registry, error, events);
        }
    }

    /// When `drive` must be called although nothing became ready.
    pub(crate) fn deadline_ns(&self) -> Option<MonotonicNs> {
        match &self.state {
            State::Closed => None,
            State::Opening(opening) => Some(opening.deadline_ns()),
            State::Open(_) => match self.expected.front() {
                Some(oldest) => self.answer_limit_ns(oldest).map(|limit_ns| self.waiting_since_ns(oldest) + limit_ns),
                None => self.ping_interval_ns().map(|interval_ns| self.last_heard_ns + interval_ns),
            },
        }
    }

    /// Closes now and gives back what was not answered.
    pub(crate) fn close(&mut self, registry: &Registry) -> Vec<R> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => {}
            State::Opening(mut opening) => opening.end(registry),
            State::Open(mut socket) => socket.deregister(registry),
        }
        self.watch = None;
        self.input = ReadBuffer::default();
        self.output = WriteBuffer::default();
        self.expected.drain(..).filter_map(|expected| expected.request).collect()
    }

    /// Closes because the owner found the server unusable.
    pub(crate) fn fail(&mut self, registry: &Registry, error: Error, events: &mut Vec<Event<R>>) {
        let error = match self.watch.as_ref().and_then(Watch::moved_to) {
            Some(primary) => Error::new(ErrorKind::Connection, format!("Sentinel: the primary is {primary} now")),
            None => error,
        };
        let unanswered = self.close(registry);
        events.push(Event::Closed { error: error.context(self.purpose), unanswered });
    }

    /// Writes what is queued without reading, as far as the socket takes it (before a stop).
    pub(crate) fn flush(&mut self) {
        if let State::Open(socket) = &mut self.state {
            // An error here shows up at the next read as well; a stopping owner does not care.
            let _ = self.output.flush(socket);
        }
    }

    fn drive_opening(&mut self, registry: &Registry, now_ns: MonotonicNs, events: &mut Vec<Event<R>>) -> Result<()> {
        let State::Opening(opening) = &mut self.state else { return Ok(()) };
        let Some(outcome) = opening.poll(now_ns) else { return Ok(()) };
        let Opened { socket: raw, info, primary } = outcome?;
        opening.end(registry);
        raw.set_nonblocking(true)?;
        if let (Some(settings), Some(primary), Some(stream)) = (&self.address.sentinel, primary, raw.tcp()) {
            self.watch = Some(Watch::start(settings, primary, stream.try_clone()?)?);
        }
        self.state = State::Open(Socket::register(raw, registry, self.token)?);
        self.last_heard_ns = now_ns;
        events.push(Event::Opened(info));
        Ok(())
    }

    fn drive_open(&mut self, ready: bool, now_ns: MonotonicNs, events: &mut Vec<Event<R>>) -> Result<()> {
        self.check_health(now_ns)?;
        let State::Open(socket) = &mut self.state else { return Ok(()) };
        self.output.flush(socket)?;
        if !ready {
            return Ok(());
        }
        loop {
            let end = self.input.fill(socket)?;
            while let Some(frame) = self.input.next_frame()? {
                self.last_heard_ns = now_ns;
                if let Frame::Push(items) = frame {
                    events.push(Event::Push(items));
                    continue;
                }
                match self.expected.pop_front() {
                    Some(Expected { request: Some(request), .. }) => {
                        events.push(Event::Reply { request, reply: frame })
                    }
                    Some(Expected { request: None, .. }) => {}
                    None => return Err(Error::new(ErrorKind::Protocol, "redis answered a question nobody asked")),
                }
            }
            match end {
                ReadEnd::Drained => return Ok(()),
                ReadEnd::Pause => {}
                ReadEnd::Closed => return Err(Error::new(ErrorKind::Connection, "redis closed the connection")),
            }
        }
    }

    fn check_health(&mut self, now_ns: MonotonicNs) -> Result<()> {
        if let Some(oldest) = self.expected.front() {
            let waited_ns = now_ns.saturating_sub(self.waiting_since_ns(oldest));
            if self.answer_limit_ns(oldest).is_some_and(|limit_ns| waited_ns >= limit_ns) {
                let text = format!("no answer within {:.1} s", waited_ns as f64 / 1e9);
                return Err(Error::new(ErrorKind::Timeout, text));
            }
            return Ok(());
        }
        let Some(interval_ns) = self.ping_interval_ns() else { return Ok(()) };
        if now_ns.saturating_sub(self.last_heard_ns) >= interval_ns {
            write_command(&mut self.output.bytes, &[b"PING"]);
            self.expected.push_back(Expected { request: None, sent_ns: now_ns });
        }
        Ok(())
    }

    /// An answer is overdue counted from its command or the last sign of life, whichever came later.
    fn waiting_since_ns(&self, oldest: &Expected<R>) -> MonotonicNs {
        oldest.sent_ns.max(self.last_heard_ns)
    }

    /// Our own ping must be answered even where the user set no limit for answers.
    fn answer_limit_ns(&self, oldest: &Expected<R>) -> Option<MonotonicNs> {
        match self.address.socket_timeout_s {
            Some(limit_s) if limit_s > 0.0 => Some(to_ns(limit_s)),
            _ if oldest.request.is_none() => self.ping_interval_ns(),
            _ => None,
        }
    }

    fn ping_interval_ns(&self) -> Option<MonotonicNs> {
        let interval_s = self.address.health_check_interval_s;
        (interval_s > 0.0).then(|| to_ns(interval_s))
    }
}

/// Seconds to nanoseconds, bounded to something a monotonic clock can add.
pub(crate) fn to_ns(seconds: f64) -> MonotonicNs {
    (seconds.clamp(0.0, 1e9) * 1e9) as MonotonicNs
}
