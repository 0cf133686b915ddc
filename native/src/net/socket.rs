//! A non-blocking stream socket, TCP with or without TLS, or Unix, registered with the poller.

use std::io::{Read, Result, Write};

use mio::event::Source;
use mio::{Interest, Registry, Token};

use super::raw_socket::RawSocket;
use super::tls_stream::TlsStream;

/// The socket of an open connection.
#[derive(Debug)]
pub(crate) enum Socket {
    /// TCP.
    Tcp(mio::net::TcpStream),
    /// TCP with TLS.
    Tls(TlsStream<mio::net::TcpStream>),
    /// Unix domain.
    Unix(mio::net::UnixStream),
}

impl Socket {
    /// Takes a socket that is already non-blocking and registers it for both directions.
    pub(crate) fn register(raw: RawSocket, registry: &Registry, token: Token) -> Result<Self> {
        let mut socket = match raw {
            RawSocket::Tcp(stream) => Socket::Tcp(mio::net::TcpStream::from_std(stream)),
            RawSocket::Tls(stream) => Socket::Tls(stream.map(mio::net::TcpStream::from_std)),
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
            Socket::Tls(stream) => stream.read(buffer),
            Socket::Unix(stream) => stream.read(buffer),
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write(bytes),
            Socket::Tls(stream) => stream.write(bytes),
            Socket::Unix(stream) => stream.write(bytes),
        }
    }

    /// Passes on what was taken and is still on this side; `WouldBlock` if the peer takes no more for now.
    pub(crate) fn flush(&mut self) -> Result<()> {
        match self {
            Socket::Tls(stream) => stream.flush(),
            Socket::Tcp(_) | Socket::Unix(_) => Ok(()),
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Socket::Tcp(stream) => stream,
            Socket::Tls(stream) => stream.socket_mut(),
            Socket::Unix(stream) => stream,
        }
    }
}
