//! Field tables: every type that RabbitMQ and py-amqp send.

use super::reader::Reader;
use crate::error::{Error, ErrorKind, Result};

/// Deepest nesting that is read.
pub(super) const DEPTH_MAX: usize = 48;

/// A value of a field table or array.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldValue {
    /// `t`
    Bool(bool),
    /// Any integer: `b B s u I i l L`.
    Integer(i64),
    /// `f` and `d`.
    Float(f64),
    /// `D`: scale and unscaled value.
    Decimal(u8, i32),
    /// `S`: text or bytes.
    Text(Vec<u8>),
    /// `x`
    Bytes(Vec<u8>),
    /// `A`
    Array(Vec<FieldValue>),
    /// `T`: seconds since the epoch.
    Timestamp(u64),
    /// `F`
    Table(FieldTable),
    /// `V`
    Void,
}

/// A field table, in the order given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FieldTable(pub Vec<(Vec<u8>, FieldValue)>);

impl FieldTable {
    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&FieldValue> {
        self.0.iter().rev().find(|(name, _)| name == key.as_bytes()).map(|(_, value)| value)
    }

    /// Adds a pair.
    pub fn set(&mut self, key: &str, value: FieldValue) {
        self.0.push((key.as_bytes().to_vec(), value));
    }

    /// Reads a table: its size, then its pairs.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        decode_table(reader.long_string()?, 0)
    }

    /// Appends the table with its size.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = open_length(out);
        for (key, value) in &self.0 {
            let key = &key[..key.len().min(255)];
            out.push(key.len() as u8);
            out.extend_from_slice(key);
            value.encode(out);
        }
        close_length(out, start);
    }
}

impl FieldValue {
    /// The text of a string.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            FieldValue::Text(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            FieldValue::Bool(value) => out.extend_from_slice(&[b't', u8::from(*value)]),
            FieldValue::Integer(value) => put_integer(out, *value),
            FieldValue::Float(value) => {
                out.push(b'd');
                out.extend_from_slice(&value.to_be_bytes());
            }
            FieldValue::Decimal(scale, unscaled) => {
                out.extend_from_slice(&[b'D', *scale]);
                out.extend_from_slice(&unscaled.to_be_bytes());
            }
            FieldValue::Text(bytes) => put_bytes(out, b'S', bytes),
            FieldValue::Bytes(bytes) => put_bytes(out, b'x', bytes),
            FieldValue::Array(values) => {
                out.push(b'A');
                let start = open_length(out);
                values.iter().for_each(|value| value.encode(out));
                close_length(out, start);
            }
            FieldValue::Timestamp(seconds) => {
                out.push(b'T');
                out.extend_from_slice(&seconds.to_be_bytes());
            }
            FieldValue::Table(table) => {
                out.push(b'F');
                table.encode(out);
            }
            FieldValue::Void => out.push(b'V'),
        }
    }
}

/// Integers as py-amqp writes them: 32 bits if they fit, else 64.
pub(super) fn put_integer(out: &mut Vec<u8>, value: i64) {
    match i32::try_from(value) {
        Ok(small) => {
            out.push(b'I');
            out.extend_from_slice(&small.to_be_bytes());
        }
        Err(_) => {
            out.push(b'l');
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

fn put_bytes(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    out.push(kind);
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Leaves room for a length; returns where it goes.
pub(super) fn open_length(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    start
}

/// Fills in the length of everything since `start`.
pub(super) fn close_length(out: &mut [u8], start: usize) {
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn decode_table(bytes: &[u8], depth: usize) -> Result<FieldTable> {
    let mut reader = Reader::new(bytes);
    let mut table = FieldTable::default();
    while !reader.is_empty() {
        let key = reader.short_string()?.to_vec();
        table.0.push((key, decode_value(&mut reader, depth + 1)?));
    }
    Ok(table)
}

fn decode_value(reader: &mut Reader<'_>, depth: usize) -> Result<FieldValue> {
    check_depth(depth)?;
    Ok(match Scalar::decode(reader)? {
        Scalar::Bool(value) => FieldValue::Bool(value),
        Scalar::Integer(value) => FieldValue::Integer(value),
        Scalar::Float(value) => FieldValue::Float(value),
        Scalar::Decimal(scale, unscaled) => FieldValue::Decimal(scale, unscaled),
        Scalar::Text(bytes) => FieldValue::Text(bytes.to_vec()),
        Scalar::Bytes(bytes) => FieldValue::Bytes(bytes.to_vec()),
        Scalar::Timestamp(seconds) => FieldValue::Timestamp(seconds),
        Scalar::Void => FieldValue::Void,
        Scalar::Table(bytes) => FieldValue::Table(decode_table(bytes, depth)?),
        Scalar::Array(bytes) => {
            let mut items = Reader::new(bytes);
            let mut values = Vec::new();
            while !items.is_empty() {
                values.push(decode_value(&mut items, depth + 1)?);
            }
            FieldValue::Array(values)
        }
    })
}

pub(super) fn check_depth(depth: usize) -> Result<()> {
    if depth > DEPTH_MAX {
        return Err(Error::new(ErrorKind::Protocol, "amqp: a field table is nested too deeply"));
    }
    Ok(())
}

/// A value whose nested parts are still bytes.
pub(super) enum Scalar<'a> {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Decimal(u8, i32),
    Text(&'a [u8]),
    Bytes(&'a [u8]),
    Timestamp(u64),
    Void,
    Table(&'a [u8]),
    Array(&'a [u8]),
}

impl<'a> Scalar<'a> {
    /// Reads a type octet and its value.
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Self> {
        let kind = reader.u8()?;
        Ok(match kind {
            b't' => Scalar::Bool(reader.u8()? != 0),
            b'b' => Scalar::Integer(i64::from(reader.u8()? as i8)),
            b'B' => Scalar::Integer(i64::from(reader.u8()?)),
            // `s` is RabbitMQ's, `U` the specification's; neither writes what the other means.
            b's' | b'U' => Scalar::Integer(i64::from(reader.u16()? as i16)),
            b'u' => Scalar::Integer(i64::from(reader.u16()?)),
            b'I' => Scalar::Integer(i64::from(reader.u32()? as i32)),
            b'i' => Scalar::Integer(i64::from(reader.u32()?)),
            b'l' | b'L' => Scalar::Integer(reader.u64()? as i64),
            b'f' => Scalar::Float(f64::from(f32::from_bits(reader.u32()?))),
            b'd' => Scalar::Float(f64::from_bits(reader.u64()?)),
            b'D' => {
                let scale = reader.u8()?;
                Scalar::Decimal(scale, reader.u32()? as i32)
            }
            b'S' => Scalar::Text(reader.long_string()?),
            b'x' => Scalar::Bytes(reader.long_string()?),
            b'A' => Scalar::Array(reader.long_string()?),
            b'T' => Scalar::Timestamp(reader.u64()?),
            b'F' => Scalar::Table(reader.long_string()?),
            b'V' => Scalar::Void,
            other => {
                let text = format!("amqp: unknown field type {:?} at offset {}", other as char, reader.position());
                return Err(Error::new(ErrorKind::Protocol, text));
            }
        })
    }
}
