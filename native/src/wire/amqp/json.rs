//! Field tables as the JSON that the rest of the core works on, and back.
//!
//! What JSON has no form for becomes kombu's typed value (`{"__type__": ..., "__value__": ...}`), which its decoder
//! turns into what py-amqp would have given: `datetime` (UTC, naive), `decimal`, `base64` for bytes that are no text.

use super::reader::Reader;
use super::value::{Scalar, check_depth, close_length, open_length, put_integer};
use crate::codec::json::{JsonResult, Kind, Scanner, StringToken, Value, escape_into, unescape_into};
use crate::error::{Error, ErrorKind, Result};

/// Appends a table (without its size) as a JSON object.
pub fn table_to_json(table: &[u8], out: &mut Vec<u8>) -> Result<()> {
    write_table(table, out, 0)
}

fn write_table(table: &[u8], out: &mut Vec<u8>, depth: usize) -> Result<()> {
    let mut reader = Reader::new(table);
    out.push(b'{');
    let mut first = true;
    while !reader.is_empty() {
        if !std::mem::take(&mut first) {
            out.extend_from_slice(b", ");
        }
        write_text(reader.short_string()?, out);
        out.extend_from_slice(b": ");
        write_value(&mut reader, out, depth + 1)?;
    }
    out.push(b'}');
    Ok(())
}

fn write_value(reader: &mut Reader<'_>, out: &mut Vec<u8>, depth: usize) -> Result<()> {
    check_depth(depth)?;
    match Scalar::decode(reader)? {
        Scalar::Void => out.extend_from_slice(b"null"),
        Scalar::Bool(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
        Scalar::Integer(value) => out.extend_from_slice(value.to_string().as_bytes()),
        Scalar::Float(value) => write_float(value, out),
        Scalar::Decimal(scale, unscaled) => write_typed("decimal", &format!("{unscaled}E-{scale}"), out),
        Scalar::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => escape_into(text, out),
            Err(_) => write_typed("base64", &base64_simd::STANDARD.encode_to_string(bytes), out),
        },
        Scalar::Bytes(bytes) => write_typed("base64", &base64_simd::STANDARD.encode_to_string(bytes), out),
        Scalar::Timestamp(seconds) => write_typed("datetime", &iso8601(seconds), out),
        Scalar::Table(bytes) => write_table(bytes, out, depth)?,
        Scalar::Array(bytes) => {
            let mut items = Reader::new(bytes);
            out.push(b'[');
            let mut first = true;
            while !items.is_empty() {
                if !std::mem::take(&mut first) {
                    out.extend_from_slice(b", ");
                }
                write_value(&mut items, out, depth + 1)?;
            }
            out.push(b']');
        }
    }
    Ok(())
}

fn write_text(bytes: &[u8], out: &mut Vec<u8>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => escape_into(text, out),
        Err(_) => escape_into(&String::from_utf8_lossy(bytes), out),
    }
}

fn write_typed(kind: &str, text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"__type__\": ");
    escape_into(kind, out);
    out.extend_from_slice(b", \"__value__\": ");
    escape_into(text, out);
    out.push(b'}');
}

fn write_float(value: f64, out: &mut Vec<u8>) {
    let text = match value {
        _ if value.is_nan() => "NaN".to_owned(),
        _ if value.is_infinite() => if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
        // The shortest text that reads back as the same number, always with a point or an exponent.
        _ => format!("{value:?}"),
    };
    out.extend_from_slice(text.as_bytes());
}

/// A moment as `YYYY-MM-DDTHH:MM:SS`; years beyond 9999, which Python does not know, end at its last second.
fn iso8601(seconds: u64) -> String {
    const LAST: u64 = 253_402_300_799;
    let seconds = seconds.min(LAST);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Civil date from days, counted in eras of 400 years from the first of March of year 0.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// Appends a JSON object as a field table with its size, typed as py-amqp would.
///
/// # Errors
///
/// `Malformed` for what is not a JSON object or has no form in a table.
pub fn json_to_table(text: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let mut scanner = Scanner::new(text, 0);
    scanner.skip_whitespace();
    read_object(text, &mut scanner, out, 0)
}

fn json<T>(result: JsonResult<T>) -> Result<T> {
    result.map_err(|error| Error::new(ErrorKind::Malformed, format!("headers: {error}")))
}

fn read_object(text: &[u8], scanner: &mut Scanner<'_>, out: &mut Vec<u8>, depth: usize) -> Result<()> {
    let start = open_length(out);
    let mut more = json(scanner.open_object())?;
    while more {
        let key = json(scanner.key())?;
        let length_at = out.len();
        out.push(0);
        put_contents(text, key, out)?;
        let length = out.len() - length_at - 1;
        let Ok(length) = u8::try_from(length) else {
            let text = format!("headers: a key of {length} bytes; AMQP allows 255");
            return Err(Error::new(ErrorKind::Malformed, text));
        };
        out[length_at] = length;
        let value = json(scanner.value())?;
        read_value(text, &value, out, depth + 1)?;
        more = json(scanner.next_member())?;
    }
    close_length(out, start);
    Ok(())
}

fn put_contents(text: &[u8], token: StringToken, out: &mut Vec<u8>) -> Result<()> {
    let contents = &text[token.start..token.end];
    if token.escaped {
        return json(unescape_into(contents, out));
    }
    out.extend_from_slice(contents);
    Ok(())
}

fn read_value(text: &[u8], value: &Value, out: &mut Vec<u8>, depth: usize) -> Result<()> {
    check_depth(depth)?;
    match value.kind {
        Kind::Null => out.push(b'V'),
        Kind::Bool(flag) => out.extend_from_slice(&[b't', u8::from(flag)]),
        Kind::Number => put_number(&text[value.start..value.end], out)?,
        Kind::String { .. } => {
            out.push(b'S');
            let start = open_length(out);
            if let Some(token) = value.string() {
                put_contents(text, token, out)?;
            }
            close_length(out, start);
        }
        Kind::Object => {
            out.push(b'F');
            read_object(text, &mut Scanner::new(text, value.start), out, depth)?;
        }
        Kind::Array => {
            out.push(b'A');
            let start = open_length(out);
            read_array(text, value, out, depth)?;
            close_length(out, start);
        }
    }
    Ok(())
}

fn read_array(text: &[u8], value: &Value, out: &mut Vec<u8>, depth: usize) -> Result<()> {
    let mut scanner = Scanner::new(text, value.start + 1);
    scanner.skip_whitespace();
    while scanner.position() < value.end && scanner.peek() != Some(b']') {
        let item = json(scanner.value())?;
        read_value(text, &item, out, depth + 1)?;
        scanner.skip_whitespace();
        if scanner.peek() == Some(b',') {
            scanner = Scanner::new(text, scanner.position() + 1);
            scanner.skip_whitespace();
        }
    }
    Ok(())
}

fn put_number(digits: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let text = std::str::from_utf8(digits).unwrap_or_default();
    if let Ok(integer) = text.parse::<i64>() {
        put_integer(out, integer);
        return Ok(());
    }
    let number = match text {
        "NaN" => f64::NAN,
        "Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        _ if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') => {
            return Err(Error::new(ErrorKind::Malformed, format!("headers: {text} does not fit into 64 bits")));
        }
        _ => text.parse().map_err(|_| Error::new(ErrorKind::Malformed, format!("headers: {text:?} is no number")))?,
    };
    out.push(b'd');
    out.extend_from_slice(&number.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn moments_are_written_as_python_reads_them() {
        assert_eq!(super::iso8601(0), "1970-01-01T00:00:00");
        assert_eq!(super::iso8601(951_782_400), "2000-02-29T00:00:00");
        assert_eq!(super::iso8601(1_772_323_199), "2026-02-28T23:59:59");
        assert_eq!(super::iso8601(u64::MAX), "9999-12-31T23:59:59");
    }
}
