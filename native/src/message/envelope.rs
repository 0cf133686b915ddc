//! kombu's virtual-transport envelope: one JSON object around headers, properties and a body.
//!
//! [`parse_envelope`] takes the bytes as the broker had them and finds what scheduling needs in one pass.
//! An [`Envelope`] owns that one buffer: the body's base64 is undone in place, strings with escapes are
//! appended unescaped, everything else is byte ranges of the original text. Reading it costs nothing:
//!
//! * `id() task() root_id() shadow() compression() content_type() content_encoding()`: `&str`, empty when
//!   the message says nothing (or null);
//! * `headers() properties()`: the JSON objects as they came (`{}` for absent headers);
//! * `body()`: the decoded bytes, still compressed if `compression()` names one;
//! * `protocol()`: [`Protocol::V1`] when the headers lack `task` or `id`; then those are in the body, `id()`
//!   and `task()` may be empty, and the parent's Python side takes the message over;
//! * `eta_s() expires_s()`: seconds since the epoch; `eta_invalid() expires_invalid()`: given but not a date
//!   that Celery reads, which it answers with `InvalidTaskError` (numbers, empty strings and such included);
//! * `hard_time_limit_s() soft_time_limit_s() retries() priority() ignore_result() has_stamps() redelivered()`;
//! * `size_bytes()`: what the message weighs in memory.
//!
//! The meaning is what Python's `json` and kombu give a message: of repeated keys the last counts, keys may
//! be escaped, a naive date is UTC, base64 is read leniently. More lenient than kombu: a missing
//! `delivery_tag` is no error, because ours comes from the broker. Typed values (`{"__type__": ...}`) are
//! understood for `id`, `root_id` (UUID), `eta` and `expires` (datetime).
//! Stricter than Python: a value of a wrong type is an error even if a repeated key replaces it later.

mod parts;

pub use parts::Parts;

use super::base64::decode_in_place;
use super::fields::{
    BodyEncoding, FieldError, FieldResult, Headers, Moment, Properties, Text, at, for_each_member, optional_string,
    read_headers, read_properties,
};
use super::span::Span;
use crate::codec::json::{JsonError, Kind, Scanner, unescape_into};
use crate::error::{Error, ErrorKind};

/// Which version of Celery's message protocol a message follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Name and id are in the body.
    V1,
    /// Name and id are in the headers.
    V2,
}

/// A message, taken apart but not copied. See the module's text for what each accessor returns.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    buffer: Vec<u8>,
    headers: Span,
    properties: Span,
    body: Span,
    content_type: Span,
    content_encoding: Span,
    id: Span,
    task: Span,
    root_id: Span,
    shadow: Span,
    compression: Span,
    protocol: Protocol,
    header_fields: Headers,
    property_fields: Properties,
}

/// Takes a message apart; on failure the bytes come back untouched.
///
/// # Errors
///
/// `TooLarge` beyond `max_bytes` (or 4 GiB), otherwise `Malformed` naming the part and the byte offset.
pub fn parse_envelope(raw: Vec<u8>, max_bytes: u64) -> Result<Envelope, (Error, Vec<u8>)> {
    if raw.len() as u64 > max_bytes.min(u64::from(u32::MAX / 2)) {
        let text = format!("message of {} bytes exceeds the bound of {max_bytes} bytes", raw.len());
        return Err((Error::new(ErrorKind::TooLarge, text), raw));
    }
    match outline(&raw) {
        Ok(outline) => outline.into_envelope(raw),
        Err(error) => Err((malformed(&error), raw)),
    }
}

#[cold]
fn malformed(error: &FieldError) -> Error {
    Error::new(ErrorKind::Malformed, format!("{}: {}", error.part, error.error))
}

/// Where everything lies in the message as it came.
#[derive(Default)]
struct Outline {
    headers: Option<Span>,
    properties: Option<Span>,
    body: Option<Text>,
    content_type: Option<Text>,
    content_encoding: Option<Text>,
    header_fields: Headers,
    property_fields: Properties,
}

fn outline(raw: &[u8]) -> FieldResult<Outline> {
    if !raw.is_ascii()
        && let Err(error) = std::str::from_utf8(raw)
    {
        return at("message", Err(JsonError { position: error.valid_up_to(), reason: "invalid UTF-8" }));
    }
    let mut outline = Outline::default();
    let mut scanner = Scanner::new(raw, 0);
    scanner.skip_whitespace();
    for_each_member(raw, &mut scanner, "message", |key, scanner| outline.read_member(raw, key, scanner))?;
    scanner.skip_whitespace();
    if scanner.peek().is_some() {
        return at("message", Err(scanner.error("unexpected data after the message")));
    }
    if outline.properties.is_none() {
        return at("properties", Err(scanner.error("missing")));
    }
    Ok(outline)
}

impl Outline {
    fn read_member<'a>(&mut self, raw: &'a [u8], key: &[u8], scanner: &mut Scanner<'a>) -> FieldResult<()> {
        let start = scanner.position();
        match key {
            b"headers" if scanner.peek() == Some(b'{') => {
                self.header_fields = read_headers(raw, scanner)?;
                self.headers = Some(Span::new(start, scanner.position()));
            }
            b"properties" => {
                self.property_fields = read_properties(raw, scanner)?;
                self.properties = Some(Span::new(start, scanner.position()));
            }
            b"headers" => {
                let value = at("headers", scanner.value())?;
                if value.is_truthy(raw) {
                    return at("headers", Err(JsonError { position: start, reason: "expected an object" }));
                }
                (self.headers, self.header_fields) = (None, Headers::default());
            }
            b"body" => {
                let value = at("body", scanner.value())?;
                // The contents are not checked yet: a later `body` may replace this one.
                self.body = match value.kind {
                    Kind::String { .. } => value.string().map(Into::into),
                    Kind::Null => None,
                    _ => return at("body", Err(JsonError { position: start, reason: "expected a string" })),
                };
            }
            b"content-type" => {
                let value = at("content-type", scanner.value())?;
                self.content_type = optional_string("content-type", raw, &value)?;
            }
            b"content-encoding" => {
                let value = at("content-encoding", scanner.value())?;
                self.content_encoding = optional_string("content-encoding", raw, &value)?;
            }
            _ => {
                at("message", scanner.value())?;
            }
        }
        Ok(())
    }

    fn into_envelope(self, raw: Vec<u8>) -> Result<Envelope, (Error, Vec<u8>)> {
        let original_length = raw.len();
        let mut buffer = raw;
        match self.take_apart(&mut buffer) {
            Ok(mut envelope) => {
                envelope.buffer = buffer;
                Ok(envelope)
            }
            Err(error) => {
                buffer.truncate(original_length);
                Err((malformed(&error), buffer))
            }
        }
    }

    /// Unescapes what is escaped and decodes the body. The buffer's first part stays as it was on failure:
    /// decoding comes last and changes nothing unless it succeeds.
    fn take_apart(&self, buffer: &mut Vec<u8>) -> FieldResult<Envelope> {
        let fields = &self.header_fields;
        let protocol = if fields.task.is_some() && fields.id.is_some() { Protocol::V2 } else { Protocol::V1 };
        let mut envelope = Envelope {
            buffer: Vec::new(),
            headers: self.headers.unwrap_or_default(),
            properties: self.properties.unwrap_or_default(),
            body: Span::default(),
            content_type: plain(buffer, "content-type", self.content_type)?,
            content_encoding: plain(buffer, "content-encoding", self.content_encoding)?,
            id: identifier(buffer, "headers.id", fields.id)?,
            task: plain(buffer, "headers.task", fields.task)?,
            root_id: identifier(buffer, "headers.root_id", fields.root_id)?,
            shadow: plain(buffer, "headers.shadow", fields.shadow)?,
            compression: plain(buffer, "headers.compression", fields.compression)?,
            protocol,
            header_fields: *fields,
            property_fields: self.property_fields,
        };
        let mut body = plain(buffer, "body", self.body)?;
        match self.property_fields.body_encoding {
            BodyEncoding::Unknown { position } if body.start != body.end => {
                let error = JsonError { position, reason: "unknown body encoding" };
                return at("properties.body_encoding", Err(error));
            }
            BodyEncoding::Base64 => {
                let end = decode_in_place(buffer, body.start as usize, body.end as usize)
                    .map_err(|reason| JsonError { position: body.start as usize, reason });
                body = Span::new(body.start as usize, at("body", end)?);
            }
            BodyEncoding::Plain | BodyEncoding::Unknown { .. } => {}
        }
        envelope.body = body;
        Ok(envelope)
    }
}

/// The place of a string's value, which is appended to the buffer if the text spells it with escapes.
fn plain(buffer: &mut Vec<u8>, part: &'static str, text: Option<Text>) -> FieldResult<Span> {
    let Some(text) = text else { return Ok(Span::default()) };
    if !text.escaped {
        return Ok(text.span);
    }
    let start = buffer.len();
    let mut value = Vec::with_capacity((text.span.end - text.span.start) as usize);
    at(part, unescape_into(text.span.of(buffer), &mut value))?;
    buffer.extend_from_slice(&value);
    Ok(Span::new(start, buffer.len()))
}

/// As `plain`; the digits of a typed UUID become its usual form.
fn identifier(buffer: &mut Vec<u8>, part: &'static str, text: Option<Text>) -> FieldResult<Span> {
    let span = plain(buffer, part, text)?;
    let is_typed_uuid = text.is_some_and(|text| text.is_uuid);
    if !is_typed_uuid {
        return Ok(span);
    }
    let digits = span.of(buffer).to_ascii_lowercase();
    let start = buffer.len();
    for (index, digit) in digits.iter().enumerate() {
        if matches!(index, 8 | 12 | 16 | 20) {
            buffer.push(b'-');
        }
        buffer.push(*digit);
    }
    Ok(Span::new(start, buffer.len()))
}

impl Envelope {
    /// The task's id; may be empty for protocol 1.
    #[must_use]
    pub fn id(&self) -> &str {
        self.id.text(&self.buffer)
    }

    /// The task's registered name; may be empty for protocol 1.
    #[must_use]
    pub fn task(&self) -> &str {
        self.task.text(&self.buffer)
    }

    /// The id of the workflow's first task, empty if not given.
    #[must_use]
    pub fn root_id(&self) -> &str {
        self.root_id.text(&self.buffer)
    }

    /// The name to show instead of the task's, empty if not given.
    #[must_use]
    pub fn shadow(&self) -> &str {
        self.shadow.text(&self.buffer)
    }

    /// The compression of the body, empty if none.
    #[must_use]
    pub fn compression(&self) -> &str {
        self.compression.text(&self.buffer)
    }

    /// The body's content type, empty if not given.
    #[must_use]
    pub fn content_type(&self) -> &str {
        self.content_type.text(&self.buffer)
    }

    /// The body's content encoding, empty if not given.
    #[must_use]
    pub fn content_encoding(&self) -> &str {
        self.content_encoding.text(&self.buffer)
    }

    /// The headers as the JSON object that came.
    #[must_use]
    pub fn headers(&self) -> &[u8] {
        match self.headers.of(&self.buffer) {
            [] => b"{}",
            headers => headers,
        }
    }

    /// The properties as the JSON object that came.
    #[must_use]
    pub fn properties(&self) -> &[u8] {
        self.properties.of(&self.buffer)
    }

    /// The body, base64 undone, compression not.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.body.of(&self.buffer)
    }

    /// The version of the message protocol.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Not to be started before, in seconds since the epoch.
    #[must_use]
    pub fn eta_s(&self) -> Option<f64> {
        seconds(self.header_fields.eta)
    }

    /// Whether an `eta` is given that Celery cannot read.
    #[must_use]
    pub fn eta_invalid(&self) -> bool {
        self.header_fields.eta == Moment::Invalid
    }

    /// Not to be started after, in seconds since the epoch.
    #[must_use]
    pub fn expires_s(&self) -> Option<f64> {
        seconds(self.header_fields.expires)
    }

    /// Whether an `expires` is given that Celery cannot read.
    #[must_use]
    pub fn expires_invalid(&self) -> bool {
        self.header_fields.expires == Moment::Invalid
    }

    /// The message's own hard time limit.
    #[must_use]
    pub fn hard_time_limit_s(&self) -> Option<f64> {
        self.header_fields.hard_time_limit_s
    }

    /// The message's own soft time limit.
    #[must_use]
    pub fn soft_time_limit_s(&self) -> Option<f64> {
        self.header_fields.soft_time_limit_s
    }

    /// How often the task was retried.
    #[must_use]
    pub fn retries(&self) -> u32 {
        self.header_fields.retries
    }

    /// The message's priority as published.
    #[must_use]
    pub fn priority(&self) -> Option<i64> {
        self.property_fields.priority
    }

    /// Whether the caller said that the result is (not) wanted.
    #[must_use]
    pub fn ignore_result(&self) -> Option<bool> {
        self.header_fields.ignore_result
    }

    /// Whether the message carries stamps.
    #[must_use]
    pub fn has_stamps(&self) -> bool {
        self.header_fields.has_stamps
    }

    /// Whether kombu has marked the message as handed out before.
    #[must_use]
    pub fn redelivered(&self) -> bool {
        self.property_fields.redelivered
    }

    /// What the message occupies in memory.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.buffer.capacity() + size_of::<Self>()
    }
}

fn seconds(moment: Moment) -> Option<f64> {
    match moment {
        Moment::At(seconds) => Some(seconds),
        Moment::Absent | Moment::Invalid => None,
    }
}
