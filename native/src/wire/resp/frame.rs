//! A decoded reply or push.

use crate::error::{Error, ErrorKind, Result};

/// One RESP value. Attributes are read and dropped; they never change what a value means.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// A status line such as `OK`.
    Simple(Vec<u8>),
    /// An error line or a bulk error: code, space, text.
    Error(String),
    /// A signed integer.
    Integer(i64),
    /// A string of bytes.
    Bulk(Vec<u8>),
    /// Nothing, in any of its three spellings.
    Null,
    /// A list.
    Array(Vec<Frame>),
    /// A floating-point number.
    Double(f64),
    /// True or false.
    Boolean(bool),
    /// An integer of any size, as its digits.
    BigNumber(Vec<u8>),
    /// Text with a three-letter format.
    Verbatim {
        /// `txt` or `mkd`.
        format: [u8; 3],
        /// The text.
        text: Vec<u8>,
    },
    /// Pairs, in the order of the server.
    Map(Vec<(Frame, Frame)>),
    /// Like a list, each element once.
    Set(Vec<Frame>),
    /// Out of band: belongs to no command.
    Push(Vec<Frame>),
}

impl Frame {
    /// The bytes of any string-like value.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Frame::Simple(bytes)
            | Frame::Bulk(bytes)
            | Frame::BigNumber(bytes)
            | Frame::Verbatim { text: bytes, .. } => Some(bytes),
            _ => None,
        }
    }

    /// The text of any string-like value that is UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        self.as_bytes().and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// An integer, also where RESP2 sends digits as a string.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Frame::Integer(value) => Some(*value),
            Frame::Boolean(value) => Some(i64::from(*value)),
            _ => self.as_str()?.parse().ok(),
        }
    }

    /// A number, also where RESP2 sends digits as a string.
    #[must_use]
    pub fn as_double(&self) -> Option<f64> {
        match self {
            Frame::Double(value) => Some(*value),
            Frame::Integer(value) => Some(*value as f64),
            _ => self.as_str()?.parse().ok(),
        }
    }

    /// The elements of a list-like value.
    pub fn into_array(self) -> Result<Vec<Frame>> {
        match self {
            Frame::Array(items) | Frame::Set(items) | Frame::Push(items) => Ok(items),
            Frame::Null => Ok(Vec::new()),
            other => Err(other.unexpected("a list")),
        }
    }

    /// The bytes of a string-like value.
    pub fn into_bytes(self) -> Result<Vec<u8>> {
        match self {
            Frame::Simple(bytes)
            | Frame::Bulk(bytes)
            | Frame::BigNumber(bytes)
            | Frame::Verbatim { text: bytes, .. } => Ok(bytes),
            other => Err(other.unexpected("a string")),
        }
    }

    /// A value of a map by its key; RESP2 sends maps as flat lists.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Frame> {
        match self {
            Frame::Map(pairs) => pairs.iter().find(|(name, _)| name.as_bytes() == Some(key)).map(|(_, value)| value),
            Frame::Array(items) => {
                items.chunks_exact(2).find(|pair| pair[0].as_bytes() == Some(key)).map(|pair| &pair[1])
            }
            _ => None,
        }
    }

    /// The error for an answer of another type than the command gives.
    #[must_use]
    pub fn unexpected(&self, wanted: &str) -> Error {
        let kind = match self {
            Frame::Simple(_) => "a status",
            Frame::Error(text) => return Error::new(ErrorKind::Protocol, format!("wanted {wanted}, got error {text}")),
            Frame::Integer(_) => "an integer",
            Frame::Bulk(_) => "a string",
            Frame::Null => "null",
            Frame::Array(_) => "a list",
            Frame::Double(_) => "a double",
            Frame::Boolean(_) => "a boolean",
            Frame::BigNumber(_) => "a big number",
            Frame::Verbatim { .. } => "verbatim text",
            Frame::Map(_) => "a map",
            Frame::Set(_) => "a set",
            Frame::Push(_) => "a push",
        };
        Error::new(ErrorKind::Protocol, format!("redis answered with {kind} where {wanted} belongs"))
    }
}
