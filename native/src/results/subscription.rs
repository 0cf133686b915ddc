//! Waiting for results on a client's side: subscribe and read in one round trip, then wait for what is published.
//!
//! With RESP3 one connection does both, so that `SUBSCRIBE` and `MGET` leave together and the server carries them out
//! in this order: a result is in the answer, or it will be announced. Servers that speak only RESP2 refuse reading on
//! a subscribed connection and get a second one, asked after the subscription is confirmed.

use std::collections::VecDeque;
use std::time::Duration;

use crate::broker::redis::server_error::classify;
use crate::config::RedisAddress;
use crate::error::{Error, ErrorKind, Result};
use crate::publish::connection::{Connection, SendError};
use crate::wire::resp::{Frame, write_command};

/// Keys of one command: bounds what the server answers at once.
const BATCH: usize = 500;
/// So few channels of an ended wait stay subscribed until the next one begins, instead of costing a system call of
/// their own at the end of every wait for a lone result.
const LINGERING_MAX: usize = 16;

/// A value published under a key.
pub type Announcement = (Vec<u8>, Vec<u8>);

/// A connection that waits for keys to be published; for one thread at a time. After an error it must be dropped.
#[derive(Debug)]
pub struct ResultSubscription {
    connection: Connection,
    /// For reading, where the server does not speak RESP3.
    reader: Option<Connection>,
    announced: VecDeque<Announcement>,
    /// Channels that are subscribed to.
    subscribed: usize,
    /// They are an ended wait's.
    is_over: bool,
}

impl ResultSubscription {
    /// Connects.
    pub fn open(address: &RedisAddress) -> Result<Self> {
        let connection = Connection::open(address)?;
        let reader = if connection.speaks_resp3() { None } else { Some(Connection::open(address)?) };
        Ok(Self { connection, reader, announced: VecDeque::new(), subscribed: 0, is_over: false })
    }

    /// Subscribes to the keys' channels, then reads the keys; missing ones are `None`.
    pub fn subscribe(&mut self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        let mut values = Vec::with_capacity(keys.len());
        for batch in keys.chunks(BATCH) {
            let mut commands = Vec::new();
            if std::mem::take(&mut self.is_over) {
                command(&mut commands, b"UNSUBSCRIBE", &[]);
                self.subscribed = 0;
            }
            command(&mut commands, b"SUBSCRIBE", batch);
            self.subscribed += batch.len();
            if self.reader.is_none() {
                command(&mut commands, b"MGET", batch);
            }
            self.connection.send(&commands).map_err(SendError::into_error)?;
            let mut missing = batch.len();
            while missing > 0 {
                let frame = self.connection.receive_any()?;
                missing -= usize::from(is_confirmation(&frame));
                self.note(frame)?;
            }
            match &mut self.reader {
                None => values.extend(self.answer()?),
                Some(reader) => values.extend(read(reader, batch)?),
            }
        }
        Ok(values)
    }

    /// Reads keys again.
    pub fn read(&mut self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        let mut values = Vec::with_capacity(keys.len());
        for batch in keys.chunks(BATCH) {
            if let Some(reader) = &mut self.reader {
                values.extend(read(reader, batch)?);
                continue;
            }
            let mut commands = Vec::new();
            command(&mut commands, b"MGET", batch);
            self.connection.send(&commands).map_err(SendError::into_error)?;
            values.extend(self.answer()?);
        }
        Ok(values)
    }

    /// Waits for the next announcement; `None` when time is up or a signal came.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Announcement>> {
        loop {
            if let Some(announcement) = self.announced.pop_front() {
                return Ok(Some(announcement));
            }
            match self.connection.receive_within(timeout)? {
                Some(frame) => self.note(frame)?,
                None => return Ok(None),
            }
        }
    }

    /// Ends all subscriptions, a few of them not before the next wait begins; the server's confirmations are skipped
    /// by that wait.
    pub fn unsubscribe(&mut self) -> Result<()> {
        self.announced.clear();
        if self.subscribed <= LINGERING_MAX {
            self.is_over = true;
            return Ok(());
        }
        self.subscribed = 0;
        let mut commands = Vec::new();
        command(&mut commands, b"UNSUBSCRIBE", &[]);
        self.connection.send(&commands).map_err(SendError::into_error)
    }

    /// The values that answer an MGET on the subscribed connection.
    fn answer(&mut self) -> Result<Vec<Option<Vec<u8>>>> {
        loop {
            match self.connection.receive_any()? {
                Frame::Array(items) => return Ok(items.into_iter().map(value).collect()),
                other => self.note(other)?,
            }
        }
    }

    /// Keeps an announcement; anything else that comes unasked has no meaning here.
    fn note(&mut self, frame: Frame) -> Result<()> {
        match frame {
            Frame::Error(line) => return Err(classify(&line)),
            Frame::Push(items) | Frame::Array(items) => {
                let mut items = items.into_iter().map(value);
                if items.next().flatten().as_deref() == Some(b"message")
                    && let (Some(Some(key)), Some(Some(content))) = (items.next(), items.next())
                {
                    self.announced.push_back((key, content));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn command(out: &mut Vec<u8>, name: &[u8], keys: &[&[u8]]) {
    let mut words = Vec::with_capacity(keys.len() + 1);
    words.push(name);
    words.extend_from_slice(keys);
    write_command(out, &words);
}

fn read(reader: &mut Connection, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
    let mut commands = Vec::new();
    command(&mut commands, b"MGET", keys);
    reader.send(&commands).map_err(SendError::into_error)?;
    match reader.receive()? {
        Frame::Array(items) => Ok(items.into_iter().map(value).collect()),
        Frame::Error(line) => Err(classify(&line)),
        _ => Err(Error::new(ErrorKind::Malformed, "redis: MGET was not answered by a list")),
    }
}

fn value(frame: Frame) -> Option<Vec<u8>> {
    match frame {
        Frame::Bulk(bytes) | Frame::Simple(bytes) => Some(bytes),
        _ => None,
    }
}

fn is_confirmation(frame: &Frame) -> bool {
    matches!(frame, Frame::Push(items) | Frame::Array(items) if items.first().and_then(Frame::as_bytes) == Some(b"subscribe"))
}
