//! Envelopes of messages that came in parts (AMQP), not as one JSON text.

use super::{Envelope, Protocol, identifier, malformed, plain};
use crate::codec::json::Scanner;
use crate::error::Error;
use crate::message::fields::{FieldResult, read_headers, read_properties};
use crate::message::span::Span;

/// One buffer and where the parts lie in it, as (start, end). Headers and properties are JSON objects; the body is
/// as it was published.
#[derive(Debug, Default)]
pub struct Parts {
    /// Holds everything.
    pub buffer: Vec<u8>,
    /// The headers object.
    pub headers: (usize, usize),
    /// The properties object.
    pub properties: (usize, usize),
    /// The body.
    pub body: (usize, usize),
    /// The body's content type.
    pub content_type: (usize, usize),
    /// The body's content encoding.
    pub content_encoding: (usize, usize),
}

impl Parts {
    /// Puts an envelope together; on failure the buffer comes back as it was.
    ///
    /// # Errors
    ///
    /// `Malformed` naming the part.
    pub fn into_envelope(self) -> Result<Envelope, (Error, Vec<u8>)> {
        let Parts { mut buffer, .. } = self;
        let length = buffer.len();
        let places = [self.headers, self.properties, self.body, self.content_type, self.content_encoding];
        let spans = places.map(|(start, end)| Span::new(start, end));
        match assemble(&mut buffer, spans) {
            Ok(mut envelope) => {
                envelope.buffer = buffer;
                Ok(envelope)
            }
            Err(error) => {
                buffer.truncate(length);
                Err((malformed(&error), buffer))
            }
        }
    }
}

fn assemble(
    buffer: &mut Vec<u8>,
    [headers, properties, body, content_type, content_encoding]: [Span; 5],
) -> FieldResult<Envelope> {
    let fields = read_headers(buffer, &mut Scanner::new(buffer, headers.start as usize))?;
    let property_fields = read_properties(buffer, &mut Scanner::new(buffer, properties.start as usize))?;
    let protocol = if fields.task.is_some() && fields.id.is_some() { Protocol::V2 } else { Protocol::V1 };
    Ok(Envelope {
        headers,
        properties,
        body,
        content_type,
        content_encoding,
        id: identifier(buffer, "headers.id", fields.id)?,
        task: plain(buffer, "headers.task", fields.task)?,
        root_id: identifier(buffer, "headers.root_id", fields.root_id)?,
        shadow: plain(buffer, "headers.shadow", fields.shadow)?,
        compression: plain(buffer, "headers.compression", fields.compression)?,
        protocol,
        header_fields: fields,
        property_fields,
        buffer: Vec::new(),
    })
}
