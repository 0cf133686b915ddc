//! Frames: type, channel, size, payload, end octet.

use crate::error::{Error, ErrorKind, Result};

/// A method frame.
pub const METHOD: u8 = 1;
/// A content header.
pub const HEADER: u8 = 2;
/// A piece of a content body.
pub const BODY: u8 = 3;
/// A sign of life.
pub const HEARTBEAT: u8 = 8;
/// Bytes of a frame beside its payload.
pub const FRAME_OVERHEAD: usize = 8;

const PREFIX: usize = 7;
const END: u8 = 0xCE;

/// One frame, its payload borrowed from the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// One of the constants of this module.
    pub kind: u8,
    /// The channel; 0 is the connection's own.
    pub channel: u16,
    /// What is in it.
    pub payload: &'a [u8],
}

/// Takes the first frame off the input, with the number of bytes it occupies; `None` if it is not complete yet.
///
/// # Errors
///
/// `Protocol` for an unknown type, a declared size above `frame_max`, or a wrong end octet.
pub fn decode_frame(input: &[u8], frame_max: u32) -> Result<Option<(Frame<'_>, usize)>> {
    let Some(&kind) = input.first() else { return Ok(None) };
    if kind == b'A' {
        // A server that does not want us answers with the protocol header that it speaks.
        return refuse("the server speaks another version of AMQP".into());
    }
    if !matches!(kind, METHOD | HEADER | BODY | HEARTBEAT) {
        return refuse(format!("unknown frame type {kind}"));
    }
    let Some(prefix) = input.get(..PREFIX) else { return Ok(None) };
    let channel = u16::from_be_bytes([prefix[1], prefix[2]]);
    let size = u32::from_be_bytes([prefix[3], prefix[4], prefix[5], prefix[6]]);
    if frame_max != 0 && u64::from(size) + FRAME_OVERHEAD as u64 > u64::from(frame_max) {
        return refuse(format!("a frame of {size} bytes exceeds the negotiated maximum of {frame_max}"));
    }
    let end = PREFIX + size as usize;
    let Some(&mark) = input.get(end) else { return Ok(None) };
    if mark != END {
        return refuse(format!("a frame of type {kind} ends with {mark:#04x} instead of {END:#04x}"));
    }
    Ok(Some((Frame { kind, channel, payload: &input[PREFIX..end] }, end + 1)))
}

fn refuse<T>(text: String) -> Result<T> {
    Err(Error::new(ErrorKind::Protocol, format!("amqp: {text}")))
}

/// Begins a frame in `out`; returns where it starts, for `finish`.
pub(super) fn begin(out: &mut Vec<u8>, kind: u8, channel: u16) -> usize {
    let start = out.len();
    out.push(kind);
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    start
}

/// Ends the frame that began at `start`.
pub(super) fn finish(out: &mut Vec<u8>, start: usize) {
    let size = (out.len() - start - PREFIX) as u32;
    out[start + 3..start + PREFIX].copy_from_slice(&size.to_be_bytes());
    out.push(END);
}
