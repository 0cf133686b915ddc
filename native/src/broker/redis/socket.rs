//! A non-blocking stream socket, TCP or Unix, registered with the poller.

use std::io::{Read, Result, Write};

use mio::event::Source;
use mio::{Interest, Registry, Token};

use super::handshake::RawSocket;

/// The socket of an open connection.
#[derive(Debug)]
pub(crate) enum Socket {
    /// TCP.
    Tcp(mio::net::TcpStream),
    /// Unix domain.
    Unix(mio::net::UnixStream),
}

impl Socket {
    /// Takes a socket that is already non-blocking and registers it for both directions.
    pub(crate) fn register(raw: RawSocket, registry: &Registry, token: Token) -> Result<Self> {
        let mut socket = match raw {
            RawSocket::Tcp(stream) => Socket::Tcp(mio::net::TcpStream::from_std(stream)),
            RawSocket::Unix(stream) => Socket::Unix(mio::net::UnixStream::from_std(stream)),
        };
        registry.register(socket.source(), token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(socket)
    }

    /// Takes the socket off the poller; it closes when dropped.
    pub(crate) fn deregister(&mut self, registry: &Registry) {
        // A socket that the poller does not know any more is deregistered already.
        let _ = registry.deregister(self.source());
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.read(buffer),
            Socket::Unix(stream) => stream.read(buffer),
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write(bytes),
            Socket::Unix(stream) => stream.write(bytes),
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Socket::Tcp(stream) => stream,
            Socket::Unix(stream) => stream,
        }
    }
}
