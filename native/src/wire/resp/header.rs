//! The line that begins every RESP value, and the bounds that are checked on it.

use crate::error::{Error, ErrorKind, Result};

/// Bounds, checked before anything is allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest string.
    pub max_bulk_bytes: usize,
    /// Most elements of one aggregate.
    pub max_elements: usize,
    /// Deepest nesting of aggregates.
    pub max_depth: usize,
    /// Longest line: status, error, number or length.
    pub max_line_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bulk_bytes: 512 << 20, max_elements: 1 << 24, max_depth: 8, max_line_bytes: 64 << 10 }
    }
}

/// What a first line announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    /// The value is the line itself.
    Line { kind: u8 },
    /// A payload of this many bytes and its line end follow.
    Payload { kind: u8, size_bytes: usize },
    /// This many elements follow; a map counts keys and values.
    Aggregate { kind: u8, elements: usize },
    /// RESP2's null string or null list.
    Null,
}

/// A first line, found complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    /// What it announces.
    pub(super) header: Header,
    /// Where the text after the type byte ends.
    pub(super) text_end: usize,
    /// Where the next byte after the line end is.
    pub(super) next: usize,
}

/// Reads the line that begins at `at`; `None` while its end is not there yet.
pub(super) fn read_line(buffer: &[u8], at: usize, limits: &Limits) -> Result<Option<Line>> {
    let Some(rest) = buffer.get(at..).filter(|rest| !rest.is_empty()) else { return Ok(None) };
    let window = &rest[..rest.len().min(limits.max_line_bytes.saturating_add(2))];
    let Some(newline) = memchr::memchr(b'\n', window) else {
        if window.len() > limits.max_line_bytes {
            return Err(protocol(format!("a line is longer than {} bytes", limits.max_line_bytes)));
        }
        check_kind(rest[0])?;
        return Ok(None);
    };
    if newline < 2 || rest[newline - 1] != b'\r' {
        return Err(protocol("a line does not end in CR LF".into()));
    }
    let header = parse_header(rest[0], &rest[1..newline - 1], limits)?;
    Ok(Some(Line { header, text_end: at + newline - 1, next: at + newline + 1 }))
}

/// Reads a whole line as a signed decimal number.
pub(super) fn parse_integer(text: &[u8]) -> Result<i64> {
    let fail = || protocol(format!("not an integer: {:?}", String::from_utf8_lossy(&text[..text.len().min(40)])));
    let digits = match text {
        [b'+' | b'-', rest @ ..] => rest,
        all => all,
    };
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(fail());
    }
    // 19 digits cannot overflow u64, so one range check at the end is enough.
    let magnitude = digits.iter().fold(0u64, |value, digit| value * 10 + u64::from(digit - b'0'));
    if text[0] == b'-' {
        0i64.checked_sub_unsigned(magnitude).ok_or_else(fail)
    } else {
        i64::try_from(magnitude).map_err(|_| fail())
    }
}

pub(super) fn protocol(text: String) -> Error {
    Error::new(ErrorKind::Protocol, format!("RESP: {text}"))
}

fn check_kind(kind: u8) -> Result<()> {
    if b"+-:$*_#,(=!%~>|".contains(&kind) {
        return Ok(());
    }
    Err(protocol(format!("unknown type byte 0x{kind:02x}")))
}

fn parse_header(kind: u8, text: &[u8], limits: &Limits) -> Result<Header> {
    check_kind(kind)?;
    match kind {
        b'$' | b'=' | b'!' => match parse_length(text, kind == b'$', limits.max_bulk_bytes)? {
            Some(size_bytes) => Ok(Header::Payload { kind, size_bytes }),
            None => Ok(Header::Null),
        },
        b'*' | b'~' | b'>' => match parse_length(text, kind == b'*', limits.max_elements)? {
            Some(elements) => Ok(Header::Aggregate { kind, elements }),
            None => Ok(Header::Null),
        },
        b'%' | b'|' => match parse_length(text, false, limits.max_elements / 2)? {
            Some(pairs) => Ok(Header::Aggregate { kind, elements: pairs * 2 }),
            None => Ok(Header::Null),
        },
        _ => Ok(Header::Line { kind }),
    }
}

fn parse_length(text: &[u8], nullable: bool, limit: usize) -> Result<Option<usize>> {
    let length = parse_integer(text)?;
    if length == -1 && nullable {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| protocol(format!("negative length {length}")))?;
    if length > limit {
        return Err(Error::new(ErrorKind::TooLarge, format!("RESP: length {length} exceeds the bound of {limit}")));
    }
    Ok(Some(length))
}
