//! Finds where a frame ends, resuming where it stopped when more bytes have come.

use super::header::{Header, Limits, protocol, read_line};
use crate::error::{Error, ErrorKind, Result};

/// Walks over one frame at a time. Feed it a buffer that only grows until it reports an end.
///
/// A reply of many megabytes arrives in many reads; decoding it from its first byte after each of them
/// would be quadratic. The scanner allocates nothing but its stack of open aggregates.
#[derive(Debug, Clone, Default)]
pub struct FrameScanner {
    limits: Limits,
    /// Everything before this offset is complete.
    position: usize,
    /// Elements still missing, outermost aggregate first.
    open: Vec<usize>,
}

impl FrameScanner {
    /// A scanner at the beginning of a frame.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, position: 0, open: Vec::new() }
    }

    /// The size of the frame at the beginning of `buffer`, or `None` while it is incomplete. After an end
    /// was reported the next call begins with the next frame, so the caller passes the bytes after it.
    pub fn advance(&mut self, buffer: &[u8]) -> Result<Option<usize>> {
        loop {
            let Some(line) = read_line(buffer, self.position, &self.limits)? else { return Ok(None) };
            match line.header {
                Header::Payload { size_bytes, .. } => {
                    let end = line.next + size_bytes;
                    match buffer.get(end..end + 2) {
                        None => return Ok(None),
                        Some(b"\r\n") => self.position = end + 2,
                        Some(_) => return Err(protocol("a string does not end in CR LF".into())),
                    }
                }
                Header::Aggregate { kind, elements } => {
                    self.position = line.next;
                    if self.enter(kind, elements)? {
                        continue;
                    }
                }
                Header::Line { .. } | Header::Null => self.position = line.next,
            }
            if self.leave() {
                return Ok(Some(std::mem::take(&mut self.position)));
            }
        }
    }

    /// Opens an aggregate; false when it is empty and thereby complete.
    fn enter(&mut self, kind: u8, elements: usize) -> Result<bool> {
        if kind == b'|' {
            // Attributes stand before the value that they decorate: it is still to come.
            match self.open.last_mut() {
                Some(missing) => *missing = missing.saturating_add(elements),
                None => self.open.push(elements + 1),
            }
            return Ok(true);
        }
        if elements == 0 {
            return Ok(false);
        }
        if self.open.len() >= self.limits.max_depth {
            let text = format!("RESP: nested deeper than {}", self.limits.max_depth);
            return Err(Error::new(ErrorKind::TooLarge, text));
        }
        self.open.push(elements);
        Ok(true)
    }

    /// Counts one complete value; true when the frame is complete.
    fn leave(&mut self) -> bool {
        while let Some(missing) = self.open.last_mut() {
            *missing -= 1;
            if *missing > 0 {
                return false;
            }
            self.open.pop();
        }
        true
    }
}
