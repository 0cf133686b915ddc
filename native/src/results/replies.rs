//! Waiting for results on a client's side of `rpc://`: a consumer on the client's own reply queue.

use std::collections::VecDeque;
use std::io::{ErrorKind as Io, Read, Write};
use std::time::{Duration, Instant};

use crate::broker::amqp::handshake::{self, Opened};
use crate::broker::amqp::topology::write_declaration;
use crate::config::amqp::{AmqpAddress, Declaration};
use crate::error::{Error, ErrorKind, Result};
use crate::net::raw_socket::RawSocket;
use crate::wire::amqp::{
    BODY, EMPTY_TABLE, Frame, HEADER, METHOD, Method, decode_frame, decode_header, decode_method, write_channel_open,
    write_consume,
};

const CHANNEL: u16 = 1;
/// A longer reply is refused before it is stored.
const REPLY_MAX: u64 = 512 << 20;
/// Room that is made for a body on the word of its header alone.
const RESERVE_MAX: u64 = 1 << 20;

/// One message of the reply queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// The task's id.
    pub correlation_id: String,
    /// How the body is encoded.
    pub content_type: String,
    /// And in which characters.
    pub content_encoding: String,
    /// The encoded meta.
    pub body: Vec<u8>,
}

/// A connection that consumes one queue; for one thread at a time. After an error it must be dropped.
#[derive(Debug)]
pub struct AmqpReplies {
    socket: RawSocket,
    frame_max: u32,
    input: Vec<u8>,
    /// The reply whose body is still on its way, with the bytes that are missing.
    partial: Option<(Reply, u64)>,
    ready: VecDeque<Reply>,
    is_consuming: bool,
}

impl AmqpReplies {
    /// Connects to the first server that lets us in, declares the queue and begins to consume it; what it hands out
    /// counts as received.
    ///
    /// # Errors
    ///
    /// The last server's.
    pub fn open(addresses: &[AmqpAddress], queue: &Declaration) -> Result<Self> {
        let mut failure = Error::new(ErrorKind::Config, "broker_url: at least one server is needed");
        for address in addresses {
            // Nobody sends signs of life while nobody waits.
            let address = AmqpAddress { heartbeat_s: 0, ..address.clone() };
            match handshake::open(&address).and_then(|opened| Self::begin(opened, &address, queue)) {
                Ok(replies) => return Ok(replies),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn begin(opened: Opened, address: &AmqpAddress, queue: &Declaration) -> Result<Self> {
        let Declaration::Queue { name, .. } = queue else {
            return Err(Error::new(ErrorKind::Config, "only a queue can be consumed"));
        };
        let mut replies = Self {
            socket: opened.socket,
            frame_max: opened.info.frame_max,
            input: opened.unread,
            partial: None,
            ready: VecDeque::new(),
            is_consuming: false,
        };
        let mut out = Vec::new();
        write_channel_open(&mut out, CHANNEL);
        write_declaration(&mut out, CHANNEL, queue)?;
        write_consume(&mut out, CHANNEL, name, "replies", true, EMPTY_TABLE);
        let limit = Duration::from_secs_f64(address.connect_timeout_s.clamp(0.001, 86_400.0));
        replies.socket.set_timeout(Some(limit))?;
        replies.socket.write_all(&out)?;
        replies.socket.flush()?;
        let deadline = Instant::now() + limit;
        while !replies.is_consuming {
            if !replies.receive(deadline)? {
                return Err(Error::new(ErrorKind::Timeout, "no answer from the broker"));
            }
        }
        Ok(replies)
    }

    /// Waits for the next reply; `None` when time is up or a signal came.
    ///
    /// # Errors
    ///
    /// The connection or the queue is gone.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Reply>> {
        let deadline = Instant::now() + timeout;
        loop {
            self.take_frames()?;
            if let Some(reply) = self.ready.pop_front() {
                return Ok(Some(reply));
            }
            if !self.receive(deadline)? {
                return Ok(None);
            }
        }
    }

    /// Reads once; false when time is up or a signal came.
    fn receive(&mut self, deadline: Instant) -> Result<bool> {
        let mut piece = [0; 16 << 10];
        let left = deadline.saturating_duration_since(Instant::now());
        // Zero would be no limit at all; what is there already is read in any case.
        self.socket.set_timeout(Some(left.max(Duration::from_millis(1))))?;
        match self.socket.read(&mut piece) {
            Ok(0) => Err(Error::new(ErrorKind::Connection, "Server unexpectedly closed connection")),
            Ok(size) => {
                self.input.extend_from_slice(&piece[..size]);
                self.take_frames()?;
                Ok(true)
            }
            Err(error) if matches!(error.kind(), Io::WouldBlock | Io::TimedOut | Io::Interrupted) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn take_frames(&mut self) -> Result<()> {
        let input = std::mem::take(&mut self.input);
        let mut consumed = 0;
        while let Some((frame, used)) = decode_frame(&input[consumed..], self.frame_max)? {
            consumed += used;
            self.on_frame(frame)?;
        }
        self.input = input;
        self.input.drain(..consumed);
        Ok(())
    }

    fn on_frame(&mut self, frame: Frame<'_>) -> Result<()> {
        match frame.kind {
            METHOD => self.on_method(&decode_method(frame.payload)?),
            HEADER => {
                let header = decode_header(frame.payload)?;
                if header.body_size > REPLY_MAX {
                    let text = format!("a reply of {} bytes exceeds the bound of {REPLY_MAX}", header.body_size);
                    return Err(Error::new(ErrorKind::TooLarge, text));
                }
                let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
                let reply = Reply {
                    correlation_id: text(header.properties.correlation_id),
                    content_type: text(header.properties.content_type),
                    content_encoding: text(header.properties.content_encoding),
                    body: Vec::with_capacity(header.body_size.min(RESERVE_MAX) as usize),
                };
                self.partial = Some((reply, header.body_size));
                self.on_body(&[])
            }
            BODY => self.on_body(frame.payload),
            _ => Ok(()),
        }
    }

    fn on_body(&mut self, payload: &[u8]) -> Result<()> {
        let Some((mut reply, missing)) = self.partial.take() else {
            return Err(Error::new(ErrorKind::Protocol, "amqp: a body before its header"));
        };
        let left = missing
            .checked_sub(payload.len() as u64)
            .ok_or_else(|| Error::new(ErrorKind::Protocol, "amqp: a body longer than its header says"))?;
        reply.body.extend_from_slice(payload);
        if left == 0 {
            self.ready.push_back(reply);
        } else {
            self.partial = Some((reply, left));
        }
        Ok(())
    }

    fn on_method(&mut self, method: &Method<'_>) -> Result<()> {
        match method {
            Method::Close(farewell) | Method::ChannelClose(farewell) => Err(farewell.to_error()),
            Method::Cancel { .. } => Err(Error::new(ErrorKind::Connection, "the reply queue was deleted")),
            Method::ConsumeOk { .. } => {
                self.is_consuming = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
