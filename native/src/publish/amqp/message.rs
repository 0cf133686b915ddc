//! A message as one byte string: the size of its properties, the encoded properties, the body.

use crate::codec::json::{Kind, Scanner, Value, unescape_into};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::amqp::{Properties, json_to_table};

/// A message taken apart.
#[derive(Debug, Clone, Copy)]
pub struct AmqpMessage<'a> {
    /// Encoded flags and properties.
    pub properties: &'a [u8],
    /// The body.
    pub body: &'a [u8],
}

impl<'a> AmqpMessage<'a> {
    /// Reads what `build_message` made.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let damaged = || Error::new(ErrorKind::Malformed, "not a message of build_amqp_message");
        let (size, rest) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
        let size = u32::from_be_bytes(*size) as usize;
        let (properties, body) = rest.split_at_checked(size).ok_or_else(damaged)?;
        Ok(Self { properties, body })
    }
}

/// Puts a message together as kombu's AMQP transport would send it.
///
/// `properties_json` may hold `priority`, `delivery_mode`, `correlation_id`, `reply_to`, `expiration`, `message_id`,
/// `timestamp`, `type`, `user_id`, `app_id` and `cluster_id`; what AMQP has no property for is left out, as there.
///
/// # Errors
///
/// `Malformed` for what is not JSON or has no form in AMQP, naming it.
pub fn build_message(
    body: &[u8],
    headers_json: &[u8],
    properties_json: &[u8],
    content_type: &str,
    content_encoding: &str,
) -> Result<Vec<u8>> {
    let mut headers = Vec::with_capacity(headers_json.len() + 64);
    json_to_table(headers_json, &mut headers)?;
    let texts = read_texts(properties_json)?;
    let text = |name: &str| texts.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_slice());
    let number = |name: &str| -> Result<Option<u64>> {
        let Some(digits) = text(name) else { return Ok(None) };
        let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
        number.map(Some).ok_or_else(|| Error::new(ErrorKind::Malformed, format!("properties.{name}: not a number")))
    };
    let octet = |name: &str| -> Result<Option<u8>> { Ok(number(name)?.map(|value| value.min(255) as u8)) };
    for (name, value) in &texts {
        if value.len() > 255 {
            let text = format!("properties.{name}: {} bytes; AMQP allows 255", value.len());
            return Err(Error::new(ErrorKind::Malformed, text));
        }
    }
    let properties = Properties {
        content_type: Some(content_type.as_bytes()),
        content_encoding: Some(content_encoding.as_bytes()),
        headers: Some(&headers[4..]),
        delivery_mode: octet("delivery_mode")?,
        priority: octet("priority")?,
        correlation_id: text("correlation_id"),
        reply_to: text("reply_to"),
        expiration: text("expiration"),
        message_id: text("message_id"),
        timestamp: number("timestamp")?,
        kind: text("type"),
        user_id: text("user_id"),
        app_id: text("app_id"),
        cluster_id: text("cluster_id"),
    };
    let mut message = vec![0; 4];
    message.reserve(headers.len() + body.len() + 256);
    properties.encode(&mut message);
    let size = (message.len() - 4) as u32;
    message[..4].copy_from_slice(&size.to_be_bytes());
    message.extend_from_slice(body);
    Ok(message)
}

/// The members that are texts or numbers, as texts.
fn read_texts(text: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
    let wrong = |error| Error::new(ErrorKind::Malformed, format!("properties: {error}"));
    let mut texts = Vec::new();
    let mut scanner = Scanner::new(text, 0);
    scanner.skip_whitespace();
    let mut more = scanner.open_object().map_err(wrong)?;
    while more {
        let key = scanner.key().map_err(wrong)?;
        let value = scanner.value().map_err(wrong)?;
        if let Some(contents) = contents_of(text, &value) {
            texts.push((String::from_utf8_lossy(&text[key.start..key.end]).into_owned(), contents));
        }
        more = scanner.next_member().map_err(wrong)?;
    }
    Ok(texts)
}

fn contents_of(text: &[u8], value: &Value) -> Option<Vec<u8>> {
    match value.kind {
        Kind::Number => Some(text[value.start..value.end].to_vec()),
        Kind::String { .. } => {
            let token = value.string()?;
            let mut contents = Vec::new();
            unescape_into(&text[token.start..token.end], &mut contents).ok()?;
            Some(contents)
        }
        _ => None,
    }
}
