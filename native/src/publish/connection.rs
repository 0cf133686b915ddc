//! A blocking connection: commands out, answers in.

use std::io::{self, Read, Write};
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use crate::broker::redis::handshake::{self, Opened};
use crate::broker::redis::sentinel::{self, Primary};
use crate::config::RedisAddress;
use crate::error::{Error, ErrorKind, Result};
use crate::net::raw_socket::RawSocket;
use crate::net::settings::SentinelSettings;
use crate::watch::Watch;
use crate::wire::resp::{Frame, FrameScanner, Limits, decode, write_command};

/// How long to wait for an answer before asking Sentinel whether the server is still the primary.
const SENTINEL_INTERVAL: Duration = Duration::from_secs(1);

/// Whether a failed exchange may have reached the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SendError {
    /// Not one byte left this process: sending again elsewhere is safe.
    NothingSent(Error),
    /// Some or all of it may have been received and carried out.
    MaybeSent(Error),
}

/// One connection. After any error it must be dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: RawSocket,
    resp3: bool,
    input: Vec<u8>,
    consumed: usize,
    scanner: FrameScanner,
    last_used: Instant,
    /// How long an answer to a ping may take.
    ping_timeout: Duration,
    answer_timeout: Option<Duration>,
    /// Without a limit of the user's, Sentinel decides whether waiting makes sense.
    patience: Option<(SentinelSettings, Primary)>,
    /// For answers: a server on this machine gives them sooner than a sleeping thread wakes.
    answers: Watch,
}

impl Connection {
    /// Connects and introduces itself, within the address's connect timeout.
    pub(crate) fn open(address: &RedisAddress) -> Result<Self> {
        let Opened { socket: stream, primary, info, .. } = handshake::open(address)?;
        let limit = address.socket_timeout_s.filter(|limit_s| *limit_s > 0.0).map(duration);
        let patience = address.sentinel.clone().zip(primary).filter(|_| limit.is_none());
        let answer_timeout = if patience.is_some() { Some(SENTINEL_INTERVAL) } else { limit };
        let connection = Self {
            stream,
            resp3: info.resp3,
            input: Vec::new(),
            consumed: 0,
            scanner: FrameScanner::new(Limits::default()),
            last_used: Instant::now(),
            ping_timeout: duration(address.connect_timeout_s),
            answer_timeout,
            patience,
            answers: Watch::default(),
        };
        connection.stream.set_timeout(answer_timeout)?;
        Ok(connection)
    }

    /// Whether the server may answer and announce on one connection.
    pub(crate) fn speaks_resp3(&self) -> bool {
        self.resp3
    }

    /// The descriptor, for a child process that has to get rid of it.
    pub(super) fn descriptor(&self) -> RawFd {
        self.stream.descriptor()
    }

    /// Whether the connection can be used again after a pause: the server has neither closed it nor said
    /// anything unasked, and after a long silence it still answers.
    pub(super) fn is_alive(&mut self, health_check_interval: Duration) -> bool {
        if !self.input.is_empty() || !is_silent(self.descriptor()) {
            return false;
        }
        if health_check_interval.is_zero() || self.last_used.elapsed() < health_check_interval {
            return true;
        }
        self.ping().is_ok()
    }

    fn ping(&mut self) -> Result<()> {
        let mut command = Vec::new();
        write_command(&mut command, &[b"PING"]);
        self.stream.set_timeout(Some(self.ping_timeout))?;
        self.send(&command).map_err(SendError::into_error)?;
        let patience = self.patience.take();
        self.receive()?;
        self.patience = patience;
        self.stream.set_timeout(self.answer_timeout)?;
        Ok(())
    }

    /// Writes everything.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> std::result::Result<(), SendError> {
        let mut written = 0;
        while written < bytes.len() {
            match self.stream.write(&bytes[written..]) {
                Ok(0) => {
                    let error = Error::new(ErrorKind::Connection, "redis: the connection takes no more");
                    return Err(SendError::after(written, error));
                }
                Ok(size) => written += size,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) && self.patience.is_some() => {
                    self.require_primary().map_err(|error| SendError::after(written, error))?;
                }
                Err(error) => return Err(SendError::after(written, Error::from(error).context("redis"))),
            }
        }
        self.stream.flush().map_err(|error| SendError::MaybeSent(Error::from(error).context("redis")))
    }

    /// Waits for the next answer.
    pub(crate) fn receive(&mut self) -> Result<Frame> {
        loop {
            match self.receive_any()? {
                // Out of band, for nobody here.
                Frame::Push(_) => {}
                frame => return Ok(frame),
            }
        }
    }

    /// Waits for the next frame, asked for or not.
    pub(crate) fn receive_any(&mut self) -> Result<Frame> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(frame);
            }
            let descriptor = self.descriptor();
            self.answers.until(|| Ok(!is_silent(descriptor)))?;
            match self.fill() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) && self.patience.is_some() => self.require_primary()?,
                Err(error) if is_timeout(&error) => {
                    return Err(Error::new(ErrorKind::Timeout, "redis: no answer within the socket timeout"));
                }
                Err(error) => return Err(Error::from(error).context("redis")),
            }
        }
    }

    /// Waits for the next frame, for some time only; `None` when it is over, or when a signal came.
    pub(crate) fn receive_within(&mut self, timeout: Duration) -> Result<Option<Frame>> {
        if let Some(frame) = self.buffered()? {
            return Ok(Some(frame));
        }
        self.stream.set_timeout(Some(timeout.max(Duration::from_millis(1))))?;
        let filled = self.fill();
        self.stream.set_timeout(self.answer_timeout)?;
        match filled {
            Ok(()) => self.buffered(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(error) if is_timeout(&error) => self.require_primary().map(|()| None),
            Err(error) => Err(Error::from(error).context("redis")),
        }
    }

    /// The next frame of what has come.
    fn buffered(&mut self) -> Result<Option<Frame>> {
        while let Some(size) = self.scanner.advance(&self.input[self.consumed..])? {
            let frame = decode(&self.input[self.consumed..self.consumed + size], &Limits::default())?;
            self.consumed += size;
            if self.consumed == self.input.len() {
                self.input.clear();
                self.consumed = 0;
                self.last_used = Instant::now();
            }
            if let Some((frame, _)) = frame {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// Reads what comes next.
    fn fill(&mut self) -> io::Result<()> {
        let mut piece = [0; 16 << 10];
        match self.stream.read(&mut piece)? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "redis closed the connection")),
            size => {
                self.input.extend_from_slice(&piece[..size]);
                Ok(())
            }
        }
    }

    /// A primary that froze keeps its connections: only Sentinel knows that another one took over.
    fn require_primary(&self) -> Result<()> {
        let Some((settings, primary)) = &self.patience else { return Ok(()) };
        match sentinel::find_primary(settings, Instant::now() + SENTINEL_INTERVAL * 2) {
            Ok(other) if other != *primary => {
                Err(Error::new(ErrorKind::Connection, format!("redis: the primary is {other} now, by Sentinel")))
            }
            _ => Ok(()),
        }
    }
}

/// Whether nothing can be read from a socket, not even its end.
#[expect(unsafe_code, reason = "the standard library cannot peek without blocking on both kinds of socket")]
fn is_silent(socket: RawFd) -> bool {
    let mut byte = 0u8;
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: the pointer and size describe `byte`; a descriptor that is not open is an error and no harm.
    let size = unsafe { libc::recv(socket, (&raw mut byte).cast(), 1, flags) };
    size < 0 && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

impl SendError {
    fn after(written: usize, error: Error) -> Self {
        if written == 0 { Self::NothingSent(error) } else { Self::MaybeSent(error) }
    }

    /// What happened, whatever it means.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::NothingSent(error) | Self::MaybeSent(error) => error,
        }
    }
}

/// Seconds as a timeout that a socket accepts.
fn duration(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.clamp(0.001, 86_400.0))
}
