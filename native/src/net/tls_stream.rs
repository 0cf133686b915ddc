//! An encrypted stream over a socket that may or may not block.
//!
//! Reading reads the socket until it has nothing or plain bytes came; writing takes plain bytes and passes on what
//! the socket takes of their encryption. What the socket did not take stays inside and goes with the next write
//! or `flush`: the owner flushes whenever the socket becomes writable.

use std::io::{self, Read, Write};

use rustls::ClientConnection;

use super::tls::failed;
use crate::error::Result;

/// The stream.
#[derive(Debug)]
pub(crate) struct TlsStream<S> {
    session: Box<ClientConnection>,
    socket: S,
}

impl<S> TlsStream<S> {
    /// The socket below.
    pub(crate) fn socket(&self) -> &S {
        &self.socket
    }

    /// The socket below, for registering it.
    pub(crate) fn socket_mut(&mut self) -> &mut S {
        &mut self.socket
    }

    /// The same session over another form of the same socket.
    pub(crate) fn map<T>(self, change: impl FnOnce(S) -> T) -> TlsStream<T> {
        TlsStream { session: self.session, socket: change(self.socket) }
    }
}

impl<S: Read + Write> TlsStream<S> {
    /// A session that begins.
    pub(crate) fn new(session: ClientConnection, socket: S) -> Self {
        Self { session: Box::new(session), socket }
    }

    /// Whether nothing but handshaking is possible yet.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.session.is_handshaking() || self.session.wants_write()
    }

    /// Writes or reads once.
    pub(crate) fn advance_handshake(&mut self) -> Result<()> {
        if self.session.wants_write() {
            self.session.write_tls(&mut self.socket)?;
            return Ok(());
        }
        if self.session.read_tls(&mut self.socket)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection").into());
        }
        if let Err(error) = self.session.process_new_packets() {
            // Tells the server why, if it still listens.
            let _ = self.session.write_tls(&mut self.socket);
            return Err(failed(error));
        }
        Ok(())
    }

    /// Passes on what is encrypted; whether all of it went.
    fn pass_on(&mut self) -> io::Result<bool> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl<S: Read + Write> Read for TlsStream<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                outcome => return outcome,
            }
            self.session.read_tls(&mut self.socket)?;
            if let Err(error) = self.session.process_new_packets() {
                let _ = self.session.write_tls(&mut self.socket);
                return Err(io::Error::other(failed(error)));
            }
            // An answer of the TLS layer itself, such as to a change of keys.
            if self.session.wants_write() {
                self.pass_on()?;
            }
        }
    }
}

impl<S: Read + Write> Write for TlsStream<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // First what waits from before: the session's memory is bounded.
        if !self.pass_on()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = self.session.writer().write(bytes)?;
        match self.session.write_tls(&mut self.socket) {
            // Not one byte left: the owner may count on that.
            Err(error) if !is_passing(&error) => Err(error),
            Err(_) => Ok(taken),
            Ok(_) => {
                // An error here shows again at the next write or flush, which every owner makes.
                let _ = self.pass_on();
                Ok(taken)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.pass_on()? { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }
}
