//! Bytes on their way in and out of a socket.

use std::io::ErrorKind as Io;
use std::io::Result;

use crate::net::socket::Socket;
use crate::wire::resp::{Frame, FrameScanner, Limits, decode};

/// Least free space for a read; a buffer that outgrew `KEEP_BYTES` is given back when it is empty.
const READ_BYTES: usize = 64 << 10;
const KEEP_BYTES: usize = 4 << 20;

/// What the server sent and nobody decoded yet.
#[derive(Debug, Default)]
pub(crate) struct ReadBuffer {
    /// Initialised throughout; the bytes of `begin..end` are the server's.
    bytes: Vec<u8>,
    begin: usize,
    end: usize,
    scanner: FrameScanner,
}

/// How a round of reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadEnd {
    /// The socket is empty.
    Drained,
    /// The buffer has much to decode; the socket may have more.
    Pause,
    /// The peer closed.
    Closed,
}

impl ReadBuffer {
    /// Reads until the socket is empty or a good deal has come.
    pub(crate) fn fill(&mut self, socket: &mut Socket) -> Result<ReadEnd> {
        let mut got_bytes = 0;
        loop {
            self.make_room();
            match socket.read(&mut self.bytes[self.end..]) {
                Ok(0) => return Ok(ReadEnd::Closed),
                Ok(size) => {
                    self.end += size;
                    got_bytes += size;
                    if got_bytes >= KEEP_BYTES {
                        return Ok(ReadEnd::Pause);
                    }
                }
                Err(error) if error.kind() == Io::WouldBlock => return Ok(ReadEnd::Drained),
                Err(error) if error.kind() == Io::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The next complete frame.
    pub(crate) fn next_frame(&mut self) -> crate::error::Result<Option<Frame>> {
        let pending = &self.bytes[self.begin..self.end];
        let Some(size) = self.scanner.advance(pending)? else {
            if pending.is_empty() {
                self.begin = 0;
                self.end = 0;
                if self.bytes.len() > KEEP_BYTES {
                    self.bytes = Vec::new();
                }
            }
            return Ok(None);
        };
        let frame = decode(&pending[..size], &Limits::default())?;
        self.begin += size;
        Ok(frame.map(|(frame, _)| frame))
    }

    fn make_room(&mut self) {
        if self.bytes.len() - self.end >= READ_BYTES {
            return;
        }
        if self.begin >= self.bytes.len() / 2 && self.begin > 0 {
            self.bytes.copy_within(self.begin..self.end, 0);
            self.end -= self.begin;
            self.begin = 0;
        }
        if self.bytes.len() - self.end < READ_BYTES {
            self.bytes.resize((self.bytes.len() * 2).max(4 * READ_BYTES), 0);
        }
    }
}

/// Commands that the socket has not taken yet.
#[derive(Debug, Default)]
pub(crate) struct WriteBuffer {
    /// Commands are appended here.
    pub(crate) bytes: Vec<u8>,
    written: usize,
}

impl WriteBuffer {
    /// Writes as much as the socket takes.
    pub(crate) fn flush(&mut self, socket: &mut Socket) -> Result<()> {
        while self.written < self.bytes.len() {
            match socket.write(&self.bytes[self.written..]) {
                Ok(0) => return Err(Io::WriteZero.into()),
                Ok(size) => self.written += size,
                Err(error) if error.kind() == Io::WouldBlock => return Ok(()),
                Err(error) if error.kind() == Io::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.bytes.clear();
        self.bytes.shrink_to(KEEP_BYTES);
        self.written = 0;
        match socket.flush() {
            Err(error) if error.kind() == Io::WouldBlock => Ok(()),
            outcome => outcome,
        }
    }
}
