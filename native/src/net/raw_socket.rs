//! A connected, blocking stream socket, TCP with or without TLS, or Unix.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::tls_stream::TlsStream;

/// A connected socket, blocking.
#[derive(Debug)]
pub(crate) enum RawSocket {
    /// TCP.
    Tcp(TcpStream),
    /// TCP with TLS.
    Tls(TlsStream<TcpStream>),
    /// Unix domain.
    Unix(UnixStream),
}

impl RawSocket {
    /// Ends the blocking phase, or begins it again.
    pub(crate) fn set_nonblocking(&self, nonblocking: bool) -> std::io::Result<()> {
        match self {
            RawSocket::Unix(stream) => stream.set_nonblocking(nonblocking),
            RawSocket::Tcp(stream) => stream.set_nonblocking(nonblocking),
            RawSocket::Tls(stream) => stream.socket().set_nonblocking(nonblocking),
        }
    }

    /// Limits how long reading and writing block.
    pub(crate) fn set_timeout(&self, timeout: Option<Duration>) -> std::io::Result<()> {
        if let RawSocket::Unix(stream) = self {
            stream.set_read_timeout(timeout)?;
            return stream.set_write_timeout(timeout);
        }
        let Some(stream) = self.tcp() else { return Ok(()) };
        stream.set_read_timeout(timeout)?;
        stream.set_write_timeout(timeout)
    }

    /// The TCP socket, encrypted or not.
    pub(crate) fn tcp(&self) -> Option<&TcpStream> {
        match self {
            RawSocket::Tcp(stream) => Some(stream),
            RawSocket::Tls(stream) => Some(stream.socket()),
            RawSocket::Unix(_) => None,
        }
    }

    /// The socket's descriptor.
    pub(crate) fn descriptor(&self) -> RawFd {
        match self {
            RawSocket::Tcp(stream) => stream.as_raw_fd(),
            RawSocket::Tls(stream) => stream.socket().as_raw_fd(),
            RawSocket::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

impl Read for RawSocket {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            RawSocket::Tcp(stream) => stream.read(buffer),
            RawSocket::Tls(stream) => stream.read(buffer),
            RawSocket::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for RawSocket {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            RawSocket::Tcp(stream) => stream.write(bytes),
            RawSocket::Tls(stream) => stream.write(bytes),
            RawSocket::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            RawSocket::Tcp(stream) => stream.flush(),
            RawSocket::Tls(stream) => stream.flush(),
            RawSocket::Unix(stream) => stream.flush(),
        }
    }
}
