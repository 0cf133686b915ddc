//! The members of headers and properties that scheduling reads, found in one pass over each object.

use super::iso8601::parse_iso8601;
use super::span::Span;
use crate::codec::json::{JsonError, JsonResult, Kind, Scanner, StringToken, Value, unescape_into};

/// Why a message cannot be read: the part, what was wrong, and where.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldError {
    pub(super) part: &'static str,
    pub(super) error: JsonError,
}

/// The result type of this module.
pub(super) type FieldResult<T> = Result<T, FieldError>;

/// Names the part that a scanner's error belongs to.
pub(super) fn at<T>(part: &'static str, result: JsonResult<T>) -> FieldResult<T> {
    result.map_err(|error| FieldError { part, error })
}

fn refuse<T>(part: &'static str, value: &Value, reason: &'static str) -> FieldResult<T> {
    Err(FieldError { part, error: JsonError { position: value.start, reason } })
}

/// A string of the message: where it lies, and whether it must be unescaped before use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) span: Span,
    pub(super) escaped: bool,
    /// The 32 digits of a UUID in kombu's typed form.
    pub(super) is_uuid: bool,
}

impl From<StringToken> for Text {
    fn from(token: StringToken) -> Self {
        Self { span: Span::new(token.start, token.end), escaped: token.escaped, is_uuid: false }
    }
}

/// `eta` or `expires`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) enum Moment {
    /// Not given.
    #[default]
    Absent,
    /// Seconds since the epoch.
    At(f64),
    /// Given, but not a date that Celery reads: it answers `InvalidTaskError`.
    Invalid,
}

/// What the headers say.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Headers {
    pub(super) id: Option<Text>,
    pub(super) task: Option<Text>,
    pub(super) root_id: Option<Text>,
    pub(super) shadow: Option<Text>,
    pub(super) compression: Option<Text>,
    pub(super) eta: Moment,
    pub(super) expires: Moment,
    pub(super) hard_time_limit_s: Option<f64>,
    pub(super) soft_time_limit_s: Option<f64>,
    pub(super) retries: u32,
    pub(super) ignore_result: Option<bool>,
    pub(super) has_stamps: bool,
}

/// How the body is written in the message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum BodyEncoding {
    /// As it is.
    #[default]
    Plain,
    /// In base64.
    Base64,
    /// In a way that kombu does not know, which matters only if there is a body.
    Unknown {
        /// Where it is named.
        position: usize,
    },
}

/// What the properties say.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Properties {
    pub(super) priority: Option<i64>,
    pub(super) body_encoding: BodyEncoding,
    pub(super) redelivered: bool,
}

/// Calls `member` with the unescaped key and the scanner at the value, for every member of an object.
pub(super) fn for_each_member<'a>(
    text: &'a [u8],
    scanner: &mut Scanner<'a>,
    part: &'static str,
    mut member: impl FnMut(&[u8], &mut Scanner<'a>) -> FieldResult<()>,
) -> FieldResult<()> {
    let mut more = at(part, scanner.open_object())?;
    while more {
        let key = at(part, scanner.key())?;
        if key.escaped {
            let mut name = Vec::new();
            // A key with an unpaired surrogate is none of ours; its partial value must not look like one.
            if unescape_into(&text[key.start..key.end], &mut name).is_err() {
                name.push(0xff);
            }
            member(&name, scanner)?;
        } else {
            member(&text[key.start..key.end], scanner)?;
        }
        more = at(part, scanner.next_member())?;
    }
    Ok(())
}

/// Reads the headers object at the scanner's place.
pub(super) fn read_headers<'a>(text: &'a [u8], scanner: &mut Scanner<'a>) -> FieldResult<Headers> {
    let mut headers = Headers::default();
    for_each_member(text, scanner, "headers", |key, scanner| {
        // Of a repeated key the last counts, so that each arm overwrites whatever was there.
        let mut value = || at("headers", scanner.value());
        match key {
            b"id" => headers.id = Some(identifier(text, "headers.id", &value()?)?),
            b"task" => headers.task = Some(string(text, "headers.task", &value()?)?),
            b"root_id" => headers.root_id = identifier(text, "headers.root_id", &value()?).ok(),
            b"shadow" => headers.shadow = optional_string("headers.shadow", text, &value()?).unwrap_or_default(),
            b"compression" => headers.compression = optional_string("headers.compression", text, &value()?)?,
            b"eta" => headers.eta = moment(text, &value()?),
            b"expires" => headers.expires = moment(text, &value()?),
            b"timelimit" => {
                (headers.hard_time_limit_s, headers.soft_time_limit_s) = time_limits(text, &value()?)?;
            }
            b"retries" => headers.retries = value()?.number(text).map_or(0, |retries| retries as u32),
            b"ignore_result" => {
                let value = value()?;
                headers.ignore_result = (value.kind != Kind::Null).then(|| value.is_truthy(text));
            }
            b"stamped_headers" => headers.has_stamps = value()?.is_truthy(text),
            _ => at("headers", scanner.skip())?,
        }
        Ok(())
    })?;
    Ok(headers)
}

/// Reads the properties object at the scanner's place.
pub(super) fn read_properties<'a>(text: &'a [u8], scanner: &mut Scanner<'a>) -> FieldResult<Properties> {
    let mut properties = Properties::default();
    for_each_member(text, scanner, "properties", |key, scanner| {
        match key {
            b"priority" => {
                let value = at("properties", scanner.value())?;
                properties.priority = value.number(text).map(|priority| priority as i64);
            }
            b"body_encoding" => properties.body_encoding = body_encoding(text, scanner)?,
            b"delivery_info" if scanner.peek() == Some(b'{') => {
                properties.redelivered = redelivered(text, scanner)?;
            }
            b"delivery_info" => {
                at("properties.delivery_info", scanner.value())?;
                properties.redelivered = false;
            }
            _ => at("properties", scanner.skip())?,
        }
        Ok(())
    })?;
    Ok(properties)
}

fn redelivered<'a>(text: &'a [u8], scanner: &mut Scanner<'a>) -> FieldResult<bool> {
    const PART: &str = "properties.delivery_info";
    let mut redelivered = false;
    for_each_member(text, scanner, PART, |key, scanner| {
        match key {
            b"redelivered" => redelivered = at(PART, scanner.value())?.is_truthy(text),
            _ => at(PART, scanner.skip())?,
        }
        Ok(())
    })?;
    Ok(redelivered)
}

/// kombu knows base64, and takes nothing or any spelling of utf-8 for plain text.
fn body_encoding<'a>(text: &'a [u8], scanner: &mut Scanner<'a>) -> FieldResult<BodyEncoding> {
    let value = at("properties.body_encoding", scanner.value())?;
    let unknown = BodyEncoding::Unknown { position: value.start };
    let token = match value.string() {
        Some(token) => token,
        _ if value.is_truthy(text) => return Ok(unknown),
        _ => return Ok(BodyEncoding::Plain),
    };
    let name = &text[token.start..token.end];
    if name == b"base64" {
        return Ok(BodyEncoding::Base64);
    }
    let mut unescaped = Vec::new();
    if unescape_into(name, &mut unescaped).is_err() {
        return Ok(unknown);
    }
    Ok(match unescaped.as_slice() {
        b"base64" => BodyEncoding::Base64,
        name if name.is_empty() || name.eq_ignore_ascii_case(b"utf-8") => BodyEncoding::Plain,
        _ => unknown,
    })
}

/// A string that has a UTF-8 form.
fn string(text: &[u8], part: &'static str, value: &Value) -> FieldResult<Text> {
    let Some(token) = value.string() else {
        return refuse(part, value, "expected a string");
    };
    if token.escaped {
        // Checked here, so that unescaping cannot fail once the message is taken apart.
        at(part, unescape_into(&text[token.start..token.end], &mut Vec::new()))
            .map_err(|error| FieldError { error: JsonError { position: value.start, ..error.error }, ..error })?;
    }
    Ok(token.into())
}

/// A string; nothing for any value that is false to Python.
pub(super) fn optional_string(part: &'static str, text: &[u8], value: &Value) -> FieldResult<Option<Text>> {
    if value.is_truthy(text) { string(text, part, value).map(Some) } else { Ok(None) }
}

/// A task id: a string, or a UUID in kombu's typed form, whose 32 digits are taken for the id's place.
fn identifier(text: &[u8], part: &'static str, value: &Value) -> FieldResult<Text> {
    if value.kind == Kind::Object
        && let Some((name, inner)) = typed_value(text, value)
        && name.span.of(text) == b"uuid"
        && inner.kind == Kind::Object
        && let Some(hex) = uuid_digits(text, &inner)
    {
        return Ok(Text { is_uuid: true, ..hex });
    }
    string(text, part, value)
}

fn uuid_digits(text: &[u8], value: &Value) -> Option<Text> {
    let mut digits = None;
    for_each_member(text, &mut Scanner::new(text, value.start), "uuid", |key, scanner| {
        let member = at("uuid", scanner.value())?;
        if key == b"hex" {
            digits = Some(string(text, "uuid", &member)?);
        }
        Ok(())
    })
    .ok()?;
    digits.filter(|digits| {
        let contents = digits.span.of(text);
        contents.len() == 32 && contents.iter().all(u8::is_ascii_hexdigit)
    })
}

/// kombu's `{"__type__": name, "__value__": value}`.
fn typed_value(text: &[u8], value: &Value) -> Option<(Text, Value)> {
    let (mut name, mut inner) = (None, None);
    for_each_member(text, &mut Scanner::new(text, value.start), "type", |key, scanner| {
        let member = at("type", scanner.value())?;
        match key {
            b"__type__" => name = Some(string(text, "type", &member)?),
            b"__value__" => inner = Some(member),
            _ => return refuse("type", &member, "not a typed value"),
        }
        Ok(())
    })
    .ok()?;
    Some((name?, inner?))
}

fn moment(text: &[u8], value: &Value) -> Moment {
    let token = match value.kind {
        Kind::Null => return Moment::Absent,
        Kind::String { .. } => value.string(),
        Kind::Object => match typed_value(text, value) {
            Some((name, inner)) if name.span.of(text) == b"datetime" => inner.string(),
            _ => None,
        },
        _ => None,
    };
    let Some(token) = token else { return Moment::Invalid };
    let contents = &text[token.start..token.end];
    let seconds = if token.escaped {
        let mut unescaped = Vec::new();
        unescape_into(contents, &mut unescaped).ok().and_then(|()| parse_iso8601(&unescaped))
    } else {
        parse_iso8601(contents)
    };
    seconds.map_or(Moment::Invalid, Moment::At)
}

/// `[hard, soft]`; null and zero are no limit.
fn time_limits(text: &[u8], value: &Value) -> FieldResult<(Option<f64>, Option<f64>)> {
    const PART: &str = "headers.timelimit";
    if !value.is_truthy(text) {
        return Ok((None, None));
    }
    if value.kind != Kind::Array {
        return refuse(PART, value, "expected a list of two limits");
    }
    let mut scanner = Scanner::new(text, value.start + 1);
    let mut limits = [None; 2];
    for (index, limit) in limits.iter_mut().enumerate() {
        scanner.skip_whitespace();
        let element = at(PART, scanner.value())?;
        if element.is_truthy(text) {
            *limit = match element.number(text) {
                Some(seconds) => Some(seconds),
                None => return refuse(PART, &element, "expected a number"),
            };
        }
        scanner.skip_whitespace();
        let separator = if index == 0 { b',' } else { b']' };
        if scanner.peek() != Some(separator) {
            return refuse(PART, value, "expected a list of two limits");
        }
        scanner = Scanner::new(text, scanner.position() + 1);
    }
    Ok((limits[0], limits[1]))
}
