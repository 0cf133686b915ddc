//! Packets beside the shared memory: doorbells, greetings and large payloads as memory files.
//!
//! All packets go through a `SOCK_SEQPACKET` Unix socket, so they keep their bounds and can carry
//! descriptors (unix(7), SCM_RIGHTS).

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::memory::memory_file;
use crate::error::{Error, ErrorKind, Result};

/// Most descriptors in one packet.
const DESCRIPTORS_MAX: usize = 4;

/// Wakes the peer; means nothing else.
pub(super) const DOORBELL: &[u8] = b"d";
/// Wakes the child before its job is there: it comes in a moment.
pub(super) const ALERT: &[u8] = b"a";
/// Carries a memory file with the frame that the next empty ring frame stands for.
pub(super) const LARGE: &[u8] = b"L";
/// The child is initialised and takes jobs.
pub(super) const UP: &[u8] = b"U";
/// Start of the child's greeting; its process id follows as eight bytes, little end first.
pub(super) const GREETING: u8 = b'P';

/// What came of receiving.
#[derive(Debug)]
pub(super) enum Received {
    /// A packet and the descriptors it carried.
    Packet(Vec<u8>, Vec<OwnedFd>),
    /// Nothing waits.
    Nothing,
    /// The peer is gone.
    Closed,
}

/// A connected pair, closed on exec.
#[expect(unsafe_code, reason = "socketpair with SOCK_SEQPACKET has no wrapper in std")]
pub(super) fn socket_pair() -> Result<(OwnedFd, OwnedFd)> {
    let mut descriptors = [0; 2];
    // SAFETY: room for the two descriptors the call writes.
    let status = unsafe {
        libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, descriptors.as_mut_ptr())
    };
    if status != 0 {
        return Err(Error::from(std::io::Error::last_os_error()).context("making a pool socket"));
    }
    // SAFETY: both were just made and belong to nobody else.
    Ok(unsafe { (OwnedFd::from_raw_fd(descriptors[0]), OwnedFd::from_raw_fd(descriptors[1])) })
}

/// Makes a descriptor non-blocking.
#[expect(unsafe_code, reason = "fcntl")]
pub(super) fn set_nonblocking(socket: &OwnedFd) -> Result<()> {
    // SAFETY: plain flag operations on a descriptor that we own.
    let status = unsafe {
        let flags = libc::fcntl(socket.as_raw_fd(), libc::F_GETFL);
        libc::fcntl(socket.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK)
    };
    if status < 0 {
        return Err(Error::from(std::io::Error::last_os_error()).context("making a pool socket non-blocking"));
    }
    Ok(())
}

#[repr(C, align(8))]
struct ControlBuffer([u8; 64]);

/// Sends one packet; false when the socket's queue is full.
#[expect(unsafe_code, reason = "sendmsg with descriptors")]
pub(super) fn send(socket: &OwnedFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<bool> {
    if descriptors.len() > DESCRIPTORS_MAX {
        return Err(Error::new(ErrorKind::Internal, "too many descriptors in one packet"));
    }
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = ControlBuffer([0; 64]);
    // SAFETY: an all-zero msghdr is valid; every pointer set below outlives the call, and the control
    // buffer is aligned and large enough for DESCRIPTORS_MAX descriptors.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        if !descriptors.is_empty() {
            let payload = size_of_val(descriptors) as u32;
            debug_assert_eq!(size_of::<BorrowedFd<'_>>(), size_of::<libc::c_int>());
            message.msg_control = control.0.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(payload) as usize;
            let header = libc::CMSG_FIRSTHDR(&message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(payload) as usize;
            std::ptr::copy_nonoverlapping(descriptors.as_ptr().cast::<u8>(), libc::CMSG_DATA(header), payload as usize);
        }
        loop {
            let sent = libc::sendmsg(socket.as_raw_fd(), &message, libc::MSG_NOSIGNAL);
            if sent >= 0 || std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
                break sent;
            }
        }
    };
    if sent >= 0 {
        return Ok(true);
    }
    let error = std::io::Error::last_os_error();
    if error.kind() == std::io::ErrorKind::WouldBlock {
        return Ok(false);
    }
    Err(Error::from(error).context("writing to a pool socket"))
}

/// Receives one packet without waiting.
#[expect(unsafe_code, reason = "recvmsg with descriptors")]
pub(super) fn receive(socket: &OwnedFd) -> Result<Received> {
    let mut buffer = [0u8; 256];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = ControlBuffer([0; 64]);
    let mut descriptors = Vec::new();
    // SAFETY: as in `send`; received descriptors are owned from here on.
    let received = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control.0.len();
        let received = libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC);
        if received > 0 {
            let mut header = libc::CMSG_FIRSTHDR(&message);
            while !header.is_null() {
                if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                    let bytes = (*header).cmsg_len - libc::CMSG_LEN(0) as usize;
                    let data = libc::CMSG_DATA(header).cast::<libc::c_int>();
                    for index in 0..bytes / size_of::<libc::c_int>() {
                        descriptors.push(OwnedFd::from_raw_fd(data.add(index).read_unaligned()));
                    }
                }
                header = libc::CMSG_NXTHDR(&message, header);
            }
        }
        received
    };
    match received {
        0 => Ok(Received::Closed),
        length if length > 0 => Ok(Received::Packet(buffer[..length as usize].to_vec(), descriptors)),
        _ => {
            let error = std::io::Error::last_os_error();
            match error.kind() {
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted => Ok(Received::Nothing),
                std::io::ErrorKind::ConnectionReset => Ok(Received::Closed),
                _ => Err(Error::from(error).context("reading from a pool socket")),
            }
        }
    }
}

/// Puts a large frame into a memory file and sends it; false when the socket's queue is full.
pub(super) fn send_large(socket: &OwnedFd, parts: &[&[u8]]) -> Result<bool> {
    let mut file = File::from(memory_file(c"pyworker-frame")?);
    for part in parts {
        file.write_all(part)?;
    }
    let descriptor = OwnedFd::from(file);
    send(socket, LARGE, &[std::os::fd::AsFd::as_fd(&descriptor)])
}

/// Reads a large frame from its memory file.
pub(super) fn read_large(descriptor: OwnedFd) -> Result<Vec<u8>> {
    let mut file = File::from(descriptor);
    let length = file.metadata()?.len() as usize;
    let mut bytes = Vec::with_capacity(length);
    std::io::Seek::rewind(&mut file)?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Waits until a descriptor is readable or its peer gone; false on time-out or a signal.
#[expect(unsafe_code, reason = "poll")]
pub(super) fn wait_readable(socket: &OwnedFd, timeout_ms: i32) -> bool {
    let mut entry = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid entry.
    unsafe { libc::poll(&mut entry, 1, timeout_ms) > 0 }
}
