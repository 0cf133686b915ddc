//! A blocking client for arranging and inspecting.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use pyworker_native::wire::resp::{Frame, Limits, decode, write_command};

/// One connection to a test server.
#[derive(Debug)]
pub struct RedisClient {
    stream: UnixStream,
    unread: Vec<u8>,
}

impl RedisClient {
    pub fn connect(path: &Path) -> std::io::Result<Self> {
        Ok(Self { stream: UnixStream::connect(path)?, unread: Vec::new() })
    }

    /// Runs a command; a server error is returned as a frame.
    pub fn run(&mut self, arguments: &[&[u8]]) -> std::io::Result<Frame> {
        let mut bytes = Vec::new();
        write_command(&mut bytes, arguments);
        self.stream.write_all(&bytes)?;
        let mut piece = vec![0; 65536];
        loop {
            if let Some((frame, used)) = decode(&self.unread, &Limits::default()).map_err(std::io::Error::other)? {
                self.unread.drain(..used);
                return Ok(frame);
            }
            match self.stream.read(&mut piece)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                size => self.unread.extend_from_slice(&piece[..size]),
            }
        }
    }

    /// Runs a command that must succeed.
    pub fn ok(&mut self, arguments: &[&[u8]]) -> Frame {
        let frame = self.run(arguments).expect("the test server answers");
        assert!(!matches!(frame, Frame::Error(_)), "{:?}: {frame:?}", String::from_utf8_lossy(arguments[0]));
        frame
    }

    pub fn integer(&mut self, arguments: &[&[u8]]) -> i64 {
        self.ok(arguments).as_integer().expect("an integer")
    }

    /// The strings of a list-like answer.
    pub fn strings(&mut self, arguments: &[&[u8]]) -> Vec<String> {
        let items = self.ok(arguments).into_array().expect("a list");
        items.iter().map(|item| item.as_str().expect("text").to_owned()).collect()
    }
}
