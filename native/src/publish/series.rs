//! Messages of many calls of one task that differ in their ids and plain positional arguments alone.
//!
//! Everything else is given once, as pieces of JSON. The texts are those that `pyworker.publish.templates` makes one
//! by one, in Python; what is not plain is left to it.

use super::amqp::build_message;
use crate::codec::json::escape_into;
use crate::error::Result;
use crate::message::build_envelope;

/// Calls with more arguments are left to Python.
const MAX_ARGUMENTS: usize = 8;
/// A longer `argsrepr` is cut, by Python.
const MAX_REPR_CHARACTERS: usize = 1024;
const CONTENT_TYPE: &str = "application/json";
const CONTENT_ENCODING: &str = "utf-8";

/// An argument that is written without a walk.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar<'a> {
    /// `None`
    Null,
    /// `True` or `False`
    Bool(bool),
    /// An integer of 64 bits.
    Integer(i64),
    /// A finite number, as Python's `repr` has it.
    Float(String),
    /// A text.
    Text(&'a str),
}

impl Scalar<'_> {
    fn write_json(&self, output: &mut Vec<u8>) {
        match self {
            Self::Null => output.extend_from_slice(b"null"),
            Self::Bool(true) => output.extend_from_slice(b"true"),
            Self::Bool(false) => output.extend_from_slice(b"false"),
            Self::Integer(value) => output.extend_from_slice(value.to_string().as_bytes()),
            Self::Float(text) => output.extend_from_slice(text.as_bytes()),
            Self::Text(text) => escape_into(text, output),
        }
    }

    fn write_repr(&self, output: &mut String) {
        match self {
            Self::Null => output.push_str("None"),
            Self::Bool(true) => output.push_str("True"),
            Self::Bool(false) => output.push_str("False"),
            Self::Integer(value) => output.push_str(&value.to_string()),
            Self::Float(text) => output.push_str(text),
            Self::Text(text) => {
                output.push('\'');
                for character in text.chars() {
                    if character == '\'' {
                        output.push('\\');
                    }
                    output.push(character);
                }
                output.push('\'');
            }
        }
    }
}

/// What the messages have in common: the pieces between the parts that differ.
#[derive(Debug, Clone, Default)]
pub struct SeriesParts {
    /// Headers up to the id.
    pub head: Vec<u8>,
    /// From behind the id to the place in the group.
    pub before_index: Vec<u8>,
    /// From behind the place to the id of the root.
    pub before_root: Vec<u8>,
    /// The root; each task is its own if there is none.
    pub root_id: Option<String>,
    /// From behind the root to `argsrepr`.
    pub before_repr: Vec<u8>,
    /// From behind `argsrepr` to the headers' end.
    pub headers_end: Vec<u8>,
    /// Properties up to the id.
    pub properties_head: Vec<u8>,
    /// From behind the id to the delivery tag.
    pub before_tag: Vec<u8>,
    /// What all delivery tags begin with; the call's number follows.
    pub tag_head: String,
    /// From behind the positional arguments to the body's end.
    pub body_end: Vec<u8>,
    /// The first one's place in the group; the others follow.
    pub first_index: Option<u64>,
    /// Whether the messages are for RabbitMQ, and no envelopes of a virtual transport.
    pub is_amqp: bool,
}

/// Writes the messages; keeps its buffers in between.
#[derive(Debug)]
pub struct SeriesWriter<'a> {
    parts: &'a SeriesParts,
    headers: Vec<u8>,
    properties: Vec<u8>,
    body: Vec<u8>,
    shown: String,
}

impl<'a> SeriesWriter<'a> {
    /// A writer of these messages.
    #[must_use]
    pub fn new(parts: &'a SeriesParts) -> Self {
        Self { parts, headers: Vec::new(), properties: Vec::new(), body: Vec::new(), shown: String::new() }
    }

    /// The message of the call at a position; `None` if it is not plain.
    ///
    /// # Errors
    ///
    /// `Malformed` if the pieces are no JSON that RabbitMQ's fields can hold.
    pub fn message(&mut self, position: u64, id: &str, arguments: &[Scalar<'_>]) -> Result<Option<Vec<u8>>> {
        if !is_plain_id(id) || arguments.len() > MAX_ARGUMENTS {
            return Ok(None);
        }
        self.show(arguments);
        if self.shown.len() > MAX_REPR_CHARACTERS && self.shown.chars().count() > MAX_REPR_CHARACTERS {
            return Ok(None);
        }
        self.write_headers(position, id);
        self.write_properties(position, id);
        self.write_body(arguments);
        if self.parts.is_amqp {
            return build_message(&self.body, &self.headers, &self.properties, CONTENT_TYPE, CONTENT_ENCODING)
                .map(Some);
        }
        Ok(Some(build_envelope(&self.body, &self.headers, &self.properties, CONTENT_TYPE, CONTENT_ENCODING)))
    }

    fn show(&mut self, arguments: &[Scalar<'_>]) {
        self.shown.clear();
        self.shown.push('(');
        for (place, argument) in arguments.iter().enumerate() {
            if place > 0 {
                self.shown.push_str(", ");
            }
            argument.write_repr(&mut self.shown);
        }
        self.shown.push_str(if arguments.len() == 1 { ",)" } else { ")" });
    }

    fn write_headers(&mut self, position: u64, id: &str) {
        let (parts, headers) = (self.parts, &mut self.headers);
        headers.clear();
        headers.extend_from_slice(&parts.head);
        headers.extend_from_slice(id.as_bytes());
        headers.extend_from_slice(&parts.before_index);
        match parts.first_index {
            Some(first) => headers.extend_from_slice((first + position).to_string().as_bytes()),
            None => headers.extend_from_slice(b"null"),
        }
        headers.extend_from_slice(&parts.before_root);
        headers.extend_from_slice(parts.root_id.as_deref().unwrap_or(id).as_bytes());
        headers.extend_from_slice(&parts.before_repr);
        escape_into(&self.shown, headers);
        headers.extend_from_slice(&parts.headers_end);
    }

    fn write_properties(&mut self, position: u64, id: &str) {
        let (parts, properties) = (self.parts, &mut self.properties);
        properties.clear();
        properties.extend_from_slice(&parts.properties_head);
        properties.extend_from_slice(id.as_bytes());
        properties.extend_from_slice(&parts.before_tag);
        properties.extend_from_slice(parts.tag_head.as_bytes());
        properties.extend_from_slice(format!("{position:012x}\"}}").as_bytes());
    }

    fn write_body(&mut self, arguments: &[Scalar<'_>]) {
        self.body.clear();
        self.body.extend_from_slice(b"[[");
        for (place, argument) in arguments.iter().enumerate() {
            if place > 0 {
                self.body.push(b',');
            }
            argument.write_json(&mut self.body);
        }
        self.body.push(b']');
        self.body.extend_from_slice(&self.parts.body_end);
    }
}

/// Whether an id can stand in JSON as it is; as in `pyworker.identifiers`.
fn is_plain_id(id: &str) -> bool {
    id.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\')
}

/// Random bytes, 16 each, as version 4 UUIDs.
pub fn uuid_texts(random: &[u8]) -> impl Iterator<Item = String> {
    random.chunks_exact(16).map(|bytes| {
        let mut text = String::with_capacity(36);
        for (place, byte) in bytes.iter().enumerate() {
            let byte = match place {
                6 => byte & 0x0f | 0x40,
                8 => byte & 0x3f | 0x80,
                _ => *byte,
            };
            if matches!(place, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            for digit in [byte >> 4, byte & 0xf] {
                text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
            }
        }
        text
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::message::parse_envelope;

    fn parts() -> SeriesParts {
        SeriesParts {
            head: br#"{"task":"t","id":""#.to_vec(),
            before_index: br#"","group":"g","group_index":"#.to_vec(),
            before_root: br#","root_id":""#.to_vec(),
            before_repr: br#"","argsrepr":"#.to_vec(),
            headers_end: b"}".to_vec(),
            properties_head: br#"{"correlation_id":""#.to_vec(),
            before_tag: br#"","delivery_tag":""#.to_vec(),
            tag_head: "head-".into(),
            body_end: b",{},{}]".to_vec(),
            first_index: Some(40),
            ..SeriesParts::default()
        }
    }

    fn headers(message: Vec<u8>) -> serde_json::Value {
        let whole: serde_json::Value = serde_json::from_slice(&message).unwrap();
        assert!(parse_envelope(message, 1 << 20).is_ok());
        whole["headers"].clone()
    }

    #[test]
    fn parts_that_differ_are_filled_in() {
        let parts = parts();
        let mut writer = SeriesWriter::new(&parts);
        let arguments = [
            Scalar::Null,
            Scalar::Bool(true),
            Scalar::Integer(-7),
            Scalar::Float("1e+22".into()),
            Scalar::Text("it's \"ä\""),
        ];
        let message = writer.message(2, "an-id", &arguments).unwrap().unwrap();
        let found = headers(message);
        assert_eq!(found["id"], "an-id");
        assert_eq!(found["root_id"], "an-id");
        assert_eq!(found["group_index"], 42);
        assert_eq!(found["argsrepr"], r#"(None, True, -7, 1e+22, 'it\'s "ä"')"#);
        assert_eq!(writer.body, br#"[[null,true,-7,1e+22,"it's \"\u00e4\""],{},{}]"#);
        assert_eq!(writer.properties, br#"{"correlation_id":"an-id","delivery_tag":"head-000000000002"}"#);
    }

    #[test]
    fn tuples_look_like_pythons() {
        let mut parts = parts();
        parts.first_index = None;
        parts.root_id = Some("root".into());
        let mut writer = SeriesWriter::new(&parts);
        for (arguments, shown) in [(&[][..], "()"), (&[Scalar::Integer(1)][..], "(1,)")] {
            let found = headers(writer.message(0, "id", arguments).unwrap().unwrap());
            assert_eq!(found["argsrepr"], shown);
            assert_eq!(found["root_id"], "root");
            assert!(found["group_index"].is_null());
        }
    }

    #[test]
    fn what_is_not_plain_is_left_alone() {
        let parts = parts();
        let mut writer = SeriesWriter::new(&parts);
        let long = "x".repeat(MAX_REPR_CHARACTERS - 5);
        for id in ["a\"b", "a\\b", "ä", "a\n"] {
            assert!(writer.message(0, id, &[]).unwrap().is_none(), "{id}");
        }
        assert!(writer.message(0, "id", &vec![Scalar::Null; MAX_ARGUMENTS + 1]).unwrap().is_none());
        assert!(writer.message(0, "id", &[Scalar::Text(&long)]).unwrap().is_some());
        assert!(writer.message(0, "id", &[Scalar::Text(&(long + "y"))]).unwrap().is_none());
    }

    #[test]
    fn random_bytes_become_version_4() {
        let made: Vec<String> = uuid_texts(&[0xff; 35]).collect();
        assert_eq!(made, ["ffffffff-ffff-4fff-bfff-ffffffffffff"; 2]);
    }
}
