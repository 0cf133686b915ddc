//! Task messages into Redis, in kombu's layout: LPUSH onto the queue's list of the message's priority.
//!
//! A connection that sat idle is checked before use, and replaced if the server has closed it; so is one
//! that refuses the first byte. Once anything was sent, a failure is reported and nothing is sent again: the
//! server may have carried it out, and whether to risk a second copy is the caller's policy
//! (`task_publish_retry` on the Python side).

use super::connection::{Connection, SendError};
use super::per_process::PerProcess;
use super::pool::{Lease, Pool};
use super::queue_key::QueueKeys;
use crate::broker::redis::server_error::{classify, needs_reconnect};
use crate::config::RedisAddress;
use crate::error::{Error, ErrorKind, Result};
use crate::wire::resp::{CommandWriter, Frame};

/// Messages of one LPUSH; more save nothing and hold up the server's other clients.
const MAX_COMMAND_MESSAGES: usize = 128;
/// What is written before the answers to the piece before are read.
const MAX_PIECE_BYTES: usize = 256 << 10;

/// What a publisher must know.
#[derive(Debug, Clone)]
pub struct PublisherOptions {
    /// The server.
    pub address: RedisAddress,
    /// Prefix of every key.
    pub global_keyprefix: String,
    /// kombu's `sep`, between queue name and priority.
    pub separator: String,
    /// kombu's `priority_steps`, ascending.
    pub priority_steps: Vec<u8>,
    /// Connections of one process; further threads wait.
    pub max_connections: usize,
}

/// A message on its way.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// Name of the queue, without prefix.
    pub queue: &'a str,
    /// Priority of the message; bounded to kombu's 0 to 9.
    pub priority: i64,
    /// The envelope.
    pub message: &'a [u8],
}

/// Publishes to Redis; shared by all threads of a process and inherited by its forks. See the module's text.
#[derive(Debug)]
pub struct RedisPublisher {
    address: RedisAddress,
    keys: QueueKeys,
    max_connections: usize,
    pool: PerProcess<Pool>,
}

/// Commands encoded and not sent, and for each how many messages it holds.
#[derive(Debug, Default)]
struct Piece {
    bytes: Vec<u8>,
    commands: Vec<usize>,
}

/// How far `publish_many` has come.
#[derive(Debug, Default)]
struct Progress {
    confirmed: usize,
    refusal: Option<Error>,
}

impl RedisPublisher {
    /// A publisher without connections.
    ///
    /// # Errors
    ///
    /// `Config` without priority steps.
    pub fn new(options: PublisherOptions) -> Result<Self> {
        if options.priority_steps.is_empty() {
            return Err(Error::new(ErrorKind::Config, "priority_steps: at least one step is needed"));
        }
        let max_connections = options.max_connections.clamp(1, 1024);
        Ok(Self {
            address: options.address,
            keys: QueueKeys::new(options.global_keyprefix, options.separator, options.priority_steps),
            max_connections,
            pool: PerProcess::new(Pool::new(max_connections)),
        })
    }

    fn pool(&self) -> &Pool {
        self.pool.get(|| Pool::new(self.max_connections), Pool::close_inherited)
    }

    /// Publishes one message and waits for the server's word.
    pub fn publish(&self, outgoing: Outgoing<'_>) -> Result<()> {
        let mut command = Vec::with_capacity(outgoing.message.len() + outgoing.queue.len() + 64);
        let mut key = Vec::with_capacity(outgoing.queue.len() + 16);
        self.keys.write(outgoing.queue, outgoing.priority, &mut key);
        CommandWriter::new(&mut command, 3).arg("LPUSH").arg(&key).arg(outgoing.message);
        let mut lease = self.pool().take(&self.address)?;
        self.send_first(&mut lease, &command)?;
        let reply = lease.connection()?.receive().map_err(maybe_published)?;
        match &reply {
            // After a failover this is the wrong server: the next attempt looks for the right one.
            Frame::Error(line) if needs_reconnect(line) => drop(lease),
            _ => lease.keep(),
        }
        match reply {
            Frame::Integer(_) => Ok(()),
            Frame::Error(line) => Err(classify(&line)),
            other => Err(other.unexpected("a list's length")),
        }
    }

    /// Publishes many messages, pipelined, in order. Messages for one list that follow each other share a
    /// command, which Redis carries out or refuses as a whole.
    ///
    /// # Errors
    ///
    /// The first failure, its text naming how many messages the server had confirmed. Nothing is sent after it.
    pub fn publish_many(&self, messages: &[Outgoing<'_>]) -> Result<()> {
        if messages.is_empty() {
            return Ok(());
        }
        let mut progress = Progress::default();
        let mut lease = self.pool().take(&self.address)?;
        match self.pipeline(&mut lease, messages, &mut progress) {
            // As above: it may be the wrong server.
            Ok(()) if progress.refusal.as_ref().is_some_and(Error::is_retryable) => drop(lease),
            Ok(()) => lease.keep(),
            Err(error) => return Err(incomplete(&error, progress.confirmed, messages.len())),
        }
        match progress.refusal {
            None => Ok(()),
            Some(error) => Err(incomplete(&error, progress.confirmed, messages.len())),
        }
    }

    /// Closes the connections that are not in use. The publisher stays usable.
    pub fn close(&self) {
        self.pool().close_idle();
    }

    /// Sends on a connection on which nothing was sent since it was taken: if not one byte gets through, a
    /// new connection is tried, once.
    fn send_first(&self, lease: &mut Lease<'_>, bytes: &[u8]) -> Result<()> {
        match lease.connection()?.send(bytes) {
            Ok(()) => Ok(()),
            Err(SendError::NothingSent(_)) if lease.reused => {
                lease.reopen(&self.address)?;
                lease.connection()?.send(bytes).map_err(|error| maybe_published(error.into_error()))
            }
            Err(SendError::NothingSent(error)) => Err(error),
            Err(SendError::MaybeSent(error)) => Err(maybe_published(error)),
        }
    }

    /// Writes one piece ahead of the answers that are read, so that the server is never idle.
    fn pipeline(&self, lease: &mut Lease<'_>, messages: &[Outgoing<'_>], progress: &mut Progress) -> Result<()> {
        let mut rest = messages;
        let mut piece = self.next_piece(&mut rest);
        self.send_first(lease, &piece.bytes)?;
        let connection = lease.connection()?;
        while progress.refusal.is_none() && !rest.is_empty() {
            let next = self.next_piece(&mut rest);
            connection.send(&next.bytes).map_err(|error| maybe_published(error.into_error()))?;
            read_answers(connection, &piece, progress).map_err(maybe_published)?;
            piece = next;
        }
        read_answers(connection, &piece, progress).map_err(maybe_published)
    }

    fn next_piece(&self, rest: &mut &[Outgoing<'_>]) -> Piece {
        let mut piece = Piece::default();
        let (mut key, mut other_key) = (Vec::new(), Vec::new());
        while let Some(first) = rest.first().filter(|_| piece.bytes.len() < MAX_PIECE_BYTES) {
            self.keys.write(first.queue, first.priority, &mut key);
            let mut size_bytes = 0;
            let length = rest
                .iter()
                .take(MAX_COMMAND_MESSAGES)
                .take_while(|next| {
                    let fits = size_bytes == 0 || size_bytes + next.message.len() <= MAX_PIECE_BYTES;
                    size_bytes += next.message.len() + 1;
                    if (next.queue, next.priority) != (first.queue, first.priority) {
                        self.keys.write(next.queue, next.priority, &mut other_key);
                        return fits && other_key == key;
                    }
                    fits
                })
                .count();
            let (batch, after) = rest.split_at(length);
            let mut command = CommandWriter::new(&mut piece.bytes, 2 + length);
            command.arg("LPUSH").arg(&key);
            for outgoing in batch {
                command.arg(outgoing.message);
            }
            drop(command);
            piece.commands.push(length);
            *rest = after;
        }
        piece
    }
}

/// Reads the answers to a piece; a refusal ends nothing, so that the connection stays in step.
fn read_answers(connection: &mut Connection, piece: &Piece, progress: &mut Progress) -> Result<()> {
    for messages in &piece.commands {
        match connection.receive()? {
            Frame::Integer(_) => progress.confirmed += messages,
            Frame::Error(line) => {
                progress.refusal.get_or_insert_with(|| classify(&line));
            }
            other => return Err(other.unexpected("a list's length")),
        }
    }
    Ok(())
}

fn maybe_published(error: Error) -> Error {
    Error::new(error.kind(), format!("{} (the message may have been published)", error.message()))
}

fn incomplete(error: &Error, confirmed: usize, all: usize) -> Error {
    Error::new(error.kind(), format!("{confirmed} of {all} messages were published: {}", error.message()))
}
