//! Connecting: name resolution, TCP, keep-alive, TLS, all within deadlines.

use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use super::raw_socket::RawSocket;
use super::settings::TlsSettings;
use super::tls;
use crate::error::{Error, ErrorKind, Result};

/// Seconds of silence before TCP keep-alive probes begin, between them, and how many may fail.
const KEEPALIVE_IDLE_S: libc::c_int = 60;
const KEEPALIVE_INTERVAL_S: libc::c_int = 10;
const KEEPALIVE_PROBES: libc::c_int = 3;

/// Where a server is and how to get there.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    /// Host name or address.
    pub(crate) host: &'a str,
    /// TCP port.
    pub(crate) port: u16,
    /// Whether the kernel looks after a silent connection.
    pub(crate) keepalive: bool,
    /// Encrypts the connection.
    pub(crate) tls: Option<&'a TlsSettings>,
}

/// What is left of a deadline.
///
/// # Errors
///
/// `Timeout` when that is nothing.
pub(crate) fn remaining(deadline: Instant) -> Result<Duration> {
    match deadline.checked_duration_since(Instant::now()) {
        Some(left) if !left.is_zero() => Ok(left),
        _ => Err(Error::new(ErrorKind::Timeout, "no connection within the connect timeout")),
    }
}

/// Connects to the first address of the host that answers, TLS included.
///
/// # Errors
///
/// The last address's, naming the place.
pub(crate) fn dial(place: &Place<'_>, tcp_deadline: Instant, deadline: Instant) -> Result<RawSocket> {
    let name = format!("{}:{}", place.host, place.port);
    let candidates = (place.host, place.port)
        .to_socket_addrs()
        .map_err(|error| Error::new(ErrorKind::Connection, format!("{name}: {error}")))?;
    let mut failure = Error::new(ErrorKind::Connection, format!("{name}: the name has no address"));
    for candidate in candidates {
        match TcpStream::connect_timeout(&candidate, remaining(tcp_deadline)?) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                if place.keepalive {
                    set_keepalive(stream.as_raw_fd())?;
                }
                return encrypt(stream, place, deadline).map_err(|error| error.context(&name));
            }
            Err(error) => failure = Error::from(error).context(&name),
        }
    }
    Err(failure)
}

fn encrypt(stream: TcpStream, place: &Place<'_>, deadline: Instant) -> Result<RawSocket> {
    let Some(settings) = place.tls else { return Ok(RawSocket::Tcp(stream)) };
    let limit = |stream: &TcpStream| {
        let left = Some(remaining(deadline)?);
        stream.set_read_timeout(left)?;
        Ok(stream.set_write_timeout(left)?)
    };
    let host = settings.server_name.as_deref().unwrap_or(place.host);
    tls::open(stream, host, settings, limit).map(RawSocket::Tls)
}

fn set_keepalive(socket: RawFd) -> Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, KEEPALIVE_IDLE_S)?;
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)?;
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_KEEPCNT, KEEPALIVE_PROBES)?;
    // Probes are sent only while nothing waits for an acknowledgement; the same patience for what does.
    let patience_ms = (KEEPALIVE_IDLE_S + KEEPALIVE_INTERVAL_S * KEEPALIVE_PROBES) * 1000;
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, patience_ms)
}

#[expect(unsafe_code, reason = "the standard library has no keep-alive options")]
fn set_option(socket: RawFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> Result<()> {
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `socket` is an open socket that the caller owns; the pointer and size describe `value`,
    // which outlives the call.
    let result = unsafe { libc::setsockopt(socket, level, name, (&raw const value).cast(), size) };
    if result != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(())
}
