//! Bytes to one frame.

use super::frame::Frame;
use super::header::{Header, Limits, parse_integer, protocol, read_line};
use crate::error::{Error, ErrorKind, Result};

/// The shortest value, `_\r\n`: no more elements than the rest divided by it can be there.
const SHORTEST_VALUE_BYTES: usize = 3;

/// Decodes the frame at the beginning of `buffer` and says how many bytes it took; `None` while it is
/// incomplete, which is no error.
pub fn decode(buffer: &[u8], limits: &Limits) -> Result<Option<(Frame, usize)>> {
    let mut decoder = Decoder { buffer, position: 0, limits };
    Ok(decoder.value(0)?.map(|frame| (frame, decoder.position)))
}

struct Decoder<'a> {
    buffer: &'a [u8],
    position: usize,
    limits: &'a Limits,
}

impl Decoder<'_> {
    fn value(&mut self, depth: usize) -> Result<Option<Frame>> {
        loop {
            let start = self.position;
            let Some(line) = read_line(self.buffer, start, self.limits)? else { return Ok(None) };
            let text = &self.buffer[start + 1..line.text_end];
            self.position = line.next;
            return match line.header {
                Header::Null => Ok(Some(Frame::Null)),
                Header::Line { kind } => line_value(kind, text).map(Some),
                Header::Payload { kind, size_bytes } => self.payload(kind, size_bytes),
                Header::Aggregate { kind: b'|', elements } => {
                    for _ in 0..elements {
                        if self.value(self.deeper(depth)?)?.is_none() {
                            return Ok(None);
                        }
                    }
                    continue;
                }
                Header::Aggregate { kind, elements } => self.aggregate(kind, elements, depth),
            };
        }
    }

    fn deeper(&self, depth: usize) -> Result<usize> {
        if depth >= self.limits.max_depth {
            let text = format!("RESP: nested deeper than {}", self.limits.max_depth);
            return Err(Error::new(ErrorKind::TooLarge, text));
        }
        Ok(depth + 1)
    }

    fn payload(&mut self, kind: u8, size_bytes: usize) -> Result<Option<Frame>> {
        let end = self.position + size_bytes;
        let Some(line_end) = self.buffer.get(end..end + 2) else { return Ok(None) };
        if line_end != b"\r\n" {
            return Err(protocol("a string does not end in CR LF".into()));
        }
        let bytes = &self.buffer[self.position..end];
        self.position = end + 2;
        Ok(Some(match (kind, bytes) {
            (b'$', _) => Frame::Bulk(bytes.to_vec()),
            (b'!', _) => Frame::Error(String::from_utf8_lossy(bytes).into_owned()),
            (_, [a, b, c, b':', text @ ..]) => Frame::Verbatim { format: [*a, *b, *c], text: text.to_vec() },
            _ => return Err(protocol("verbatim text without a format".into())),
        }))
    }

    fn aggregate(&mut self, kind: u8, elements: usize, depth: usize) -> Result<Option<Frame>> {
        if elements == 0 {
            return Ok(Some(wrap(kind, Vec::new())));
        }
        let depth = self.deeper(depth)?;
        let possible = (self.buffer.len() - self.position) / SHORTEST_VALUE_BYTES + 1;
        if kind == b'%' {
            let mut pairs = Vec::with_capacity((elements / 2).min(possible));
            for _ in 0..elements / 2 {
                let Some(key) = self.value(depth)? else { return Ok(None) };
                let Some(value) = self.value(depth)? else { return Ok(None) };
                pairs.push((key, value));
            }
            return Ok(Some(Frame::Map(pairs)));
        }
        let mut items = Vec::with_capacity(elements.min(possible));
        for _ in 0..elements {
            let Some(item) = self.value(depth)? else { return Ok(None) };
            items.push(item);
        }
        Ok(Some(wrap(kind, items)))
    }
}

fn wrap(kind: u8, items: Vec<Frame>) -> Frame {
    match kind {
        b'~' => Frame::Set(items),
        b'>' => Frame::Push(items),
        b'%' => Frame::Map(Vec::new()),
        _ => Frame::Array(items),
    }
}

fn line_value(kind: u8, text: &[u8]) -> Result<Frame> {
    match kind {
        b'+' => Ok(Frame::Simple(text.to_vec())),
        b'-' => Ok(Frame::Error(String::from_utf8_lossy(text).into_owned())),
        b':' => parse_integer(text).map(Frame::Integer),
        b'_' if text.is_empty() => Ok(Frame::Null),
        b'#' if text == b"t" => Ok(Frame::Boolean(true)),
        b'#' if text == b"f" => Ok(Frame::Boolean(false)),
        b',' => parse_double(text).map(Frame::Double),
        b'(' => parse_big_number(text).map(Frame::BigNumber),
        _ => Err(protocol(format!("a malformed value of type {:?}", char::from(kind)))),
    }
}

fn parse_double(text: &[u8]) -> Result<f64> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| protocol(format!("not a double: {:?}", String::from_utf8_lossy(&text[..text.len().min(40)]))))
}

fn parse_big_number(text: &[u8]) -> Result<Vec<u8>> {
    let digits = match text {
        [b'+' | b'-', rest @ ..] => rest,
        all => all,
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(protocol("a big number with something else than digits".into()));
    }
    Ok(text.to_vec())
}
