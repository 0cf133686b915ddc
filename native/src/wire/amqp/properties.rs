//! Content headers: the body's size and the basic properties.

use super::json::table_to_json;
use super::reader::Reader;
use super::value::{close_length, open_length};
use super::write::put_short_string;
use crate::codec::json::escape_into;
use crate::error::{Error, ErrorKind, Result};

const BASIC: u16 = 60;

/// The basic properties, borrowed from the frame; nothing for what was not sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    /// MIME type of the body.
    pub content_type: Option<&'a [u8]>,
    /// Encoding of the body.
    pub content_encoding: Option<&'a [u8]>,
    /// The headers table, without its size.
    pub headers: Option<&'a [u8]>,
    /// 1 transient, 2 persistent.
    pub delivery_mode: Option<u8>,
    /// Priority in the queue; high is first.
    pub priority: Option<u8>,
    /// Names what this belongs to.
    pub correlation_id: Option<&'a [u8]>,
    /// Where answers go.
    pub reply_to: Option<&'a [u8]>,
    /// Milliseconds to live, as text.
    pub expiration: Option<&'a [u8]>,
    /// The application's name for the message.
    pub message_id: Option<&'a [u8]>,
    /// Seconds since the epoch.
    pub timestamp: Option<u64>,
    /// The application's name for its kind.
    pub kind: Option<&'a [u8]>,
    /// The user that published, checked by the server.
    pub user_id: Option<&'a [u8]>,
    /// The application's own name.
    pub app_id: Option<&'a [u8]>,
    /// Unused since AMQP 0-9.
    pub cluster_id: Option<&'a [u8]>,
}

/// What precedes a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentHeader<'a> {
    /// Bytes of the body that follows in body frames.
    pub body_size: u64,
    /// The properties.
    pub properties: Properties<'a>,
}

/// Reads a content header frame's payload.
pub fn decode_header(payload: &[u8]) -> Result<ContentHeader<'_>> {
    let mut reader = Reader::new(payload);
    let class = reader.u16()?;
    if class != BASIC {
        return Err(Error::new(ErrorKind::Protocol, format!("amqp: content of class {class}")));
    }
    reader.u16()?;
    let body_size = reader.u64()?;
    let flags = reader.u16()?;
    if flags & 1 != 0 {
        return Err(Error::new(ErrorKind::Protocol, "amqp: more property flags than there are properties"));
    }
    let mut short = |bit: u16| -> Result<Option<&[u8]>> {
        if flags & (1 << bit) != 0 { reader.short_string().map(Some) } else { Ok(None) }
    };
    let mut properties = Properties { content_type: short(15)?, content_encoding: short(14)?, ..Properties::default() };
    if flags & (1 << 13) != 0 {
        properties.headers = Some(reader.long_string()?);
    }
    if flags & (1 << 12) != 0 {
        properties.delivery_mode = Some(reader.u8()?);
    }
    if flags & (1 << 11) != 0 {
        properties.priority = Some(reader.u8()?);
    }
    let mut short = |bit: u16| -> Result<Option<&[u8]>> {
        if flags & (1 << bit) != 0 { reader.short_string().map(Some) } else { Ok(None) }
    };
    properties.correlation_id = short(10)?;
    properties.reply_to = short(9)?;
    properties.expiration = short(8)?;
    properties.message_id = short(7)?;
    if flags & (1 << 6) != 0 {
        properties.timestamp = Some(reader.u64()?);
    }
    let mut short = |bit: u16| -> Result<Option<&[u8]>> {
        if flags & (1 << bit) != 0 { reader.short_string().map(Some) } else { Ok(None) }
    };
    properties.kind = short(5)?;
    properties.user_id = short(4)?;
    properties.app_id = short(3)?;
    properties.cluster_id = short(2)?;
    Ok(ContentHeader { body_size, properties })
}

impl Properties<'_> {
    /// Appends the flags and the properties, as they stand in a content header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let flags_at = out.len();
        out.extend_from_slice(&[0; 2]);
        let mut flags = 0_u16;
        let mut short = |bit: u16, value: Option<&[u8]>, out: &mut Vec<u8>| {
            if let Some(value) = value {
                flags |= 1 << bit;
                put_short_string(out, value);
            }
        };
        short(15, self.content_type, out);
        short(14, self.content_encoding, out);
        if let Some(headers) = self.headers {
            let start = open_length(out);
            out.extend_from_slice(headers);
            close_length(out, start);
        }
        out.extend(self.delivery_mode);
        out.extend(self.priority);
        short(10, self.correlation_id, out);
        short(9, self.reply_to, out);
        short(8, self.expiration, out);
        short(7, self.message_id, out);
        if let Some(timestamp) = self.timestamp {
            out.extend_from_slice(&timestamp.to_be_bytes());
        }
        short(5, self.kind, out);
        short(4, self.user_id, out);
        short(3, self.app_id, out);
        short(2, self.cluster_id, out);
        flags |= u16::from(self.headers.is_some()) << 13;
        flags |= u16::from(self.delivery_mode.is_some()) << 12;
        flags |= u16::from(self.priority.is_some()) << 11;
        flags |= u16::from(self.timestamp.is_some()) << 6;
        out[flags_at..flags_at + 2].copy_from_slice(&flags.to_be_bytes());
    }

    /// Appends the members of the properties object that py-amqp would show, without braces.
    pub fn write_json_members(&self, out: &mut Vec<u8>) {
        let mut text = |name: &str, value: Option<&[u8]>| {
            if let Some(value) = value {
                escape_into(name, out);
                out.extend_from_slice(b": ");
                escape_into(&String::from_utf8_lossy(value), out);
                out.extend_from_slice(b", ");
            }
        };
        text("content_type", self.content_type);
        text("content_encoding", self.content_encoding);
        text("correlation_id", self.correlation_id);
        text("reply_to", self.reply_to);
        text("expiration", self.expiration);
        text("message_id", self.message_id);
        text("type", self.kind);
        text("user_id", self.user_id);
        text("app_id", self.app_id);
        text("cluster_id", self.cluster_id);
        let mut number = |name: &str, value: Option<u64>| {
            if let Some(value) = value {
                out.extend_from_slice(format!("\"{name}\": {value}, ").as_bytes());
            }
        };
        number("delivery_mode", self.delivery_mode.map(u64::from));
        number("priority", self.priority.map(u64::from));
        number("timestamp", self.timestamp);
    }

    /// Appends the headers as a JSON object.
    pub fn write_headers_json(&self, out: &mut Vec<u8>) -> Result<()> {
        table_to_json(self.headers.unwrap_or_default(), out)
    }
}
