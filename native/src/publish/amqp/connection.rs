//! A blocking connection whose publishes are confirmed.

use std::io::{ErrorKind as Io, Read, Write};
use std::time::{Duration, Instant};

use super::AmqpOutgoing;
use super::message::AmqpMessage;
use crate::broker::amqp::handshake::{self, Opened};
use crate::broker::amqp::topology::{subject, write_declaration};
use crate::config::amqp::{AmqpAddress, Declaration};
use crate::error::{Error, ErrorKind, Result};
use crate::net::raw_socket::RawSocket;
use crate::wire::amqp::{
    METHOD, Method, Publish, decode_frame, decode_method, write_channel_close_ok, write_channel_open, write_close,
    write_confirm_select, write_publish,
};

const CHANNEL: u16 = 1;
/// Bytes written before answers are looked for.
const PIECE_BYTES: usize = 256 << 10;
/// Publishes on their way without a confirmation. A server confirms many at once, so a small number makes it wait for us:
/// 4,096 cost 6 % of a batch of 20,000.
const UNCONFIRMED_MAX: u64 = 65_536;

/// Why a publish failed.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong.
    pub error: Error,
    /// Whether the server may have taken any of it.
    pub maybe_sent: bool,
    /// Whether the connection can be used again.
    pub is_usable: bool,
}

/// One connection with one channel. After an error that is not `is_usable` it must be dropped.
#[derive(Debug)]
pub struct ConfirmedConnection {
    stream: Option<RawSocket>,
    frame_max: u32,
    timeout: Duration,
    confirms: bool,
    input: Vec<u8>,
    consumed: usize,
    /// Number of the last publish.
    published: u64,
    /// All publishes up to this one have an answer.
    answered: u64,
    /// Answers above `answered`.
    early: std::collections::BTreeSet<u64>,
    refused: u64,
    returned: Option<Error>,
    blocked: Option<String>,
}

impl ConfirmedConnection {
    /// Connects and switches confirmations on.
    pub fn open(address: &AmqpAddress, confirms: bool, timeout: Duration) -> Result<Self> {
        // Nobody sends signs of life while nothing is published, as in stock producers.
        let address = AmqpAddress { heartbeat_s: 0, ..address.clone() };
        let Opened { socket, info, unread } = handshake::open(&address)?;
        let mut connection = Self {
            stream: Some(socket),
            frame_max: info.frame_max,
            timeout,
            confirms,
            input: unread,
            consumed: 0,
            published: 0,
            answered: 0,
            early: Default::default(),
            refused: 0,
            returned: None,
            blocked: None,
        };
        let mut out = Vec::new();
        write_channel_open(&mut out, CHANNEL);
        connection.send(&out)?;
        connection.wait_for(|method| matches!(method, Method::ChannelOpenOk))?;
        if confirms {
            out.clear();
            write_confirm_select(&mut out, CHANNEL);
            connection.send(&out)?;
            connection.wait_for(|method| matches!(method, Method::ConfirmOk))?;
        }
        Ok(connection)
    }

    /// Whether the server has not hung up meanwhile, as far as can be seen from here.
    pub fn is_alive(&mut self) -> bool {
        let outcome = self.read_available().and_then(|()| self.take_answers());
        outcome.is_ok() && self.blocked.is_none()
    }

    /// Gives the socket up without a word to the server: it belongs to another process as well.
    pub fn forget(&mut self) {
        self.stream = None;
    }

    /// Declares in order.
    pub fn declare(&mut self, declarations: &[Declaration]) -> Result<()> {
        let mut out = Vec::new();
        for declaration in declarations {
            out.clear();
            write_declaration(&mut out, CHANNEL, declaration)?;
            self.send(&out)?;
            self.wait_for(|method| matches!(method, Method::Done | Method::QueueDeclareOk { .. }))
                .map_err(|error| error.context(&subject(declaration)))?;
        }
        Ok(())
    }

    /// Publishes in order, behind a declaration if there is one, and waits until the server has confirmed all.
    pub fn publish(
        &mut self,
        outgoing: &[AmqpOutgoing<'_>],
        first: Option<&Declaration>,
    ) -> std::result::Result<(), Failure> {
        let before = self.published;
        (self.refused, self.returned) = (0, None);
        let nothing = |error| Failure { error, maybe_sent: false, is_usable: false };
        if let Err(error) = self.read_available().and_then(|()| self.take_answers()) {
            return Err(nothing(error));
        }
        let outcome = self.write_all(outgoing, first).and_then(|()| self.await_confirmations(0));
        let confirmed = self.answered.saturating_sub(before + self.refused);
        let fail = |error: Error, is_usable| {
            let error = if outgoing.len() > 1 {
                Error::new(
                    error.kind(),
                    format!("{confirmed} of {} messages were published: {}", outgoing.len(), error),
                )
            } else {
                error
            };
            Err(Failure { error, maybe_sent: true, is_usable })
        };
        if let Err(error) = outcome {
            return if self.published == before { Err(nothing(error)) } else { fail(error, false) };
        }
        if let Some(error) = self.returned.take() {
            return fail(error, true);
        }
        if self.refused > 0 {
            let text = format!("the server could not take {} of the messages (nack)", self.refused);
            return fail(Error::new(ErrorKind::ServerBusy, text), true);
        }
        Ok(())
    }

    fn write_all(&mut self, outgoing: &[AmqpOutgoing<'_>], first: Option<&Declaration>) -> Result<()> {
        let mut out = Vec::new();
        if let Some(declaration) = first {
            // Its answer comes among the confirmations; a refusal closes the channel before any of them.
            write_declaration(&mut out, CHANNEL, declaration)?;
        }
        for (index, one) in outgoing.iter().enumerate() {
            for name in [one.exchange, one.routing_key] {
                if name.len() > 255 {
                    return Err(Error::new(ErrorKind::Config, format!("{name:?} is longer than AMQP's 255 bytes")));
                }
            }
            let message = AmqpMessage::parse(one.message)?;
            let publish = Publish {
                exchange: one.exchange,
                routing_key: one.routing_key,
                mandatory: one.mandatory,
                properties: message.properties,
                body: message.body,
            };
            write_publish(&mut out, CHANNEL, self.frame_max, &publish);
            let is_last = index + 1 == outgoing.len();
            if out.len() < PIECE_BYTES && !is_last {
                self.published += 1;
                continue;
            }
            self.published += 1;
            self.send(&out)?;
            out.clear();
            if !is_last {
                self.read_available()?;
                self.take_answers()?;
                self.await_confirmations(UNCONFIRMED_MAX)?;
            }
        }
        Ok(())
    }

    /// Returns once at most `most` publishes have no answer.
    fn await_confirmations(&mut self, most: u64) -> Result<()> {
        if !self.confirms {
            self.answered = self.published;
            return Ok(());
        }
        self.read_until(|connection| connection.published - connection.answered <= most)
    }

    /// Reads and handles answers until a condition holds; fails when nothing has come for the time limit.
    fn read_until(&mut self, mut done: impl FnMut(&Self) -> bool) -> Result<()> {
        let mut deadline = Instant::now() + self.timeout;
        loop {
            if self.take_answers()? {
                deadline = Instant::now() + self.timeout;
            }
            if done(self) {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.too_late());
            }
            let mut piece = [0; 16 << 10];
            let size = {
                let stream = self.stream()?;
                stream.set_timeout(Some(left))?;
                match stream.read(&mut piece) {
                    Ok(0) => return Err(hung_up()),
                    Ok(size) => size,
                    Err(error) if matches!(error.kind(), Io::WouldBlock | Io::TimedOut | Io::Interrupted) => 0,
                    Err(error) => return Err(error.into()),
                }
            };
            self.input.extend_from_slice(&piece[..size]);
        }
    }

    fn too_late(&self) -> Error {
        let limit_s = self.timeout.as_secs_f64();
        let text = match &self.blocked {
            Some(reason) => format!("the broker blocks publishers ({reason}); not confirmed within {limit_s} s"),
            None => format!("not confirmed by the broker within {limit_s} s"),
        };
        Error::new(ErrorKind::Timeout, text)
    }

    fn wait_for(&mut self, is_it: impl Fn(&Method<'_>) -> bool) -> Result<()> {
        let deadline = Instant::now() + self.timeout;
        let mut piece = [0; 16 << 10];
        loop {
            let found = self.take_frames(|connection, method| {
                if is_it(&method) { Ok(true) } else { connection.on_method(&method).map(|()| false) }
            })?;
            if found {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::new(ErrorKind::Timeout, "no answer from the broker"));
            }
            let stream = self.stream()?;
            stream.set_timeout(Some(left))?;
            match stream.read(&mut piece)? {
                0 => return Err(hung_up()),
                size => self.input.extend_from_slice(&piece[..size]),
            }
        }
    }

    fn stream(&mut self) -> Result<&mut RawSocket> {
        self.stream
            .as_mut()
            .ok_or_else(|| Error::new(ErrorKind::Connection, "the connection belongs to another process"))
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let timeout = self.timeout;
        let stream = self.stream()?;
        stream.set_timeout(Some(timeout))?;
        match stream.write_all(bytes).and_then(|()| stream.flush()) {
            Ok(()) => Ok(()),
            Err(error) if matches!(error.kind(), Io::WouldBlock | Io::TimedOut) => Err(self.too_late()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes what the socket has without waiting.
    fn read_available(&mut self) -> Result<()> {
        self.stream()?.set_nonblocking(true)?;
        let outcome = self.read_until_dry();
        self.stream()?.set_nonblocking(false)?;
        outcome
    }

    fn read_until_dry(&mut self) -> Result<()> {
        let mut piece = [0; 16 << 10];
        loop {
            match self.stream()?.read(&mut piece) {
                Ok(0) => return Err(hung_up()),
                Ok(size) => self.input.extend_from_slice(&piece[..size]),
                Err(error) if error.kind() == Io::WouldBlock => return Ok(()),
                Err(error) if error.kind() == Io::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Handles the complete frames; true if there were any.
    fn take_answers(&mut self) -> Result<bool> {
        let mut any = false;
        self.take_frames(|connection, method| {
            any = true;
            connection.on_method(&method).map(|()| false)
        })?;
        Ok(any)
    }

    /// Shows complete method frames to `take` until it says that it has what it wanted.
    fn take_frames(&mut self, mut take: impl FnMut(&mut Self, Method<'_>) -> Result<bool>) -> Result<bool> {
        let input = std::mem::take(&mut self.input);
        let mut consumed = self.consumed;
        let mut found = Ok(false);
        while matches!(found, Ok(false)) {
            match decode_frame(&input[consumed..], self.frame_max) {
                Ok(Some((frame, used))) => {
                    consumed += used;
                    // Contents are those of returned messages, of which the method says enough.
                    if frame.kind == METHOD {
                        found = decode_method(frame.payload).and_then(|method| take(self, method));
                    }
                }
                Ok(None) => break,
                Err(error) => found = Err(error),
            }
        }
        self.input = input;
        self.input.drain(..consumed);
        self.consumed = 0;
        found
    }

    fn on_method(&mut self, method: &Method<'_>) -> Result<()> {
        match method {
            Method::Ack { delivery, multiple } => self.on_answer(*delivery, *multiple, false),
            Method::Nack { delivery, multiple } => self.on_answer(*delivery, *multiple, true),
            Method::Return { code, text, exchange, routing_key } => {
                let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let text = format!(
                    "({code}) {}: no queue takes messages of exchange {:?} with routing key {:?}",
                    show(text),
                    show(exchange),
                    show(routing_key)
                );
                self.returned = Some(Error::new(ErrorKind::ServerRefused, text));
            }
            Method::Blocked(reason) => self.blocked = Some(reason.clone()),
            Method::Unblocked => self.blocked = None,
            Method::Close(farewell) => return Err(farewell.to_error()),
            Method::ChannelClose(farewell) => {
                let mut out = Vec::new();
                write_channel_close_ok(&mut out, CHANNEL);
                let _ = self.send(&out);
                return Err(farewell.to_error());
            }
            _ => {}
        }
        Ok(())
    }

    fn on_answer(&mut self, delivery: u64, multiple: bool, refused: bool) {
        let first = if multiple { self.answered + 1 } else { delivery };
        for number in first..=delivery.min(self.published) {
            if number > self.answered && self.early.insert(number) && refused {
                self.refused += 1;
            }
        }
        while self.early.remove(&(self.answered + 1)) {
            self.answered += 1;
        }
    }
}

impl Drop for ConfirmedConnection {
    fn drop(&mut self) {
        let mut out = Vec::new();
        write_close(&mut out, 200, "");
        if let Some(stream) = &mut self.stream {
            // A courtesy; the server notices a closed socket as well.
            let _ = stream.set_timeout(Some(Duration::from_millis(10)));
            let _ = stream.write_all(&out).and_then(|()| stream.flush());
        }
    }
}

fn hung_up() -> Error {
    Error::new(ErrorKind::Connection, "Server unexpectedly closed connection")
}
