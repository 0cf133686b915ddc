//! The inside of JSON strings: where plain text ends, escapes to characters and back.

use super::{JsonError, JsonResult};

/// How many bytes from the start are neither a quote, a backslash nor a control character.
#[inline]
pub(super) fn plain_length(text: &[u8]) -> usize {
    let mut length = 0;
    while let Some(chunk) = text[length..].first_chunk::<16>() {
        let found = special_bytes(chunk);
        if found != 0 {
            return length + found.trailing_zeros() as usize;
        }
        length += 16;
    }
    length + text[length..].iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f)).count()
}

/// One bit for each byte that ends a stretch of plain text.
#[cfg(target_arch = "x86_64")]
#[inline]
#[expect(unsafe_code, reason = "SSE2 compares sixteen bytes at once; every x86-64 has it")]
fn special_bytes(chunk: &[u8; 16]) -> u32 {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
    };
    // SAFETY: these need nothing but SSE2, which is part of x86-64; the load reads the sixteen bytes of `chunk`.
    unsafe {
        let bytes = _mm_loadu_si128(chunk.as_ptr().cast());
        let quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
        let backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
        let control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
        _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, backslash), control)) as u32
    }
}

/// One bit for each byte that ends a stretch of plain text.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn special_bytes(chunk: &[u8; 16]) -> u32 {
    chunk
        .iter()
        .enumerate()
        .fold(0, |bits, (index, byte)| bits | u32::from(matches!(byte, b'"' | b'\\' | 0..=0x1f)) << index)
}

/// The UTF-16 unit of four hexadecimal digits at an offset.
pub(super) fn hex_unit(text: &[u8], position: usize) -> Option<u16> {
    let digits = text.get(position..position + 4)?;
    let mut unit = 0;
    for digit in digits {
        unit = unit << 4 | (*digit as char).to_digit(16)? as u16;
    }
    Some(unit)
}

/// Appends the value of a string whose escapes the scanner has already accepted.
///
/// Fails on an unpaired surrogate, which Python keeps in a `str` but which has no UTF-8 form; `output` then
/// holds a part of the value.
pub fn unescape_into(contents: &[u8], output: &mut Vec<u8>) -> JsonResult<()> {
    let mut position = 0;
    while position < contents.len() {
        let plain = memchr::memchr(b'\\', &contents[position..]).unwrap_or(contents.len() - position);
        output.extend_from_slice(&contents[position..position + plain]);
        position += plain;
        let Some(escape) = contents.get(position + 1) else { break };
        let simple = match escape {
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                position += push_unicode(contents, position, output)?;
                continue;
            }
            other => *other,
        };
        output.push(simple);
        position += 2;
    }
    Ok(())
}

/// Appends the character of a `\u` escape, or of a pair of them; returns the escape's length.
fn push_unicode(contents: &[u8], position: usize, output: &mut Vec<u8>) -> JsonResult<usize> {
    let lone = JsonError { position, reason: "unpaired surrogate" };
    let first = hex_unit(contents, position + 2).ok_or(JsonError { position, reason: "invalid escape" })?;
    let (units, count, length) = match (first, contents.get(position + 6..position + 8)) {
        (0xd800..=0xdbff, Some(b"\\u")) => ([first, hex_unit(contents, position + 8).ok_or(lone)?], 2, 12),
        _ => ([first, 0], 1, 6),
    };
    let character = char::decode_utf16(units[..count].iter().copied()).next().and_then(std::result::Result::ok);
    output.extend_from_slice(character.ok_or(lone)?.encode_utf8(&mut [0; 4]).as_bytes());
    Ok(length)
}

/// Appends a string as a JSON string with its quotes, as Python's `json.dumps` writes it: ASCII only.
pub fn escape_into(value: &str, output: &mut Vec<u8>) {
    output.reserve(value.len() + 2);
    output.push(b'"');
    let bytes = value.as_bytes();
    let plain = bytes.iter().take_while(|byte| is_plain_ascii(**byte)).count();
    output.extend_from_slice(&bytes[..plain]);
    for character in value[plain..].chars() {
        match character {
            '"' => output.extend_from_slice(b"\\\""),
            '\\' => output.extend_from_slice(b"\\\\"),
            '\n' => output.extend_from_slice(b"\\n"),
            '\r' => output.extend_from_slice(b"\\r"),
            '\t' => output.extend_from_slice(b"\\t"),
            '\u{8}' => output.extend_from_slice(b"\\b"),
            '\u{c}' => output.extend_from_slice(b"\\f"),
            ' '..='~' => output.push(character as u8),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    output.extend_from_slice(b"\\u");
                    for shift in [12, 8, 4, 0] {
                        output.push(b"0123456789abcdef"[usize::from(*unit >> shift & 0xf)]);
                    }
                }
            }
        }
    }
    output.push(b'"');
}

fn is_plain_ascii(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}
