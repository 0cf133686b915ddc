//! A JSON scanner that finds values without building them, and the few conversions that go with it.
//!
//! It accepts exactly what Python's `json.loads` accepts of a `str`: RFC 8259 plus `NaN`, `Infinity` and
//! `-Infinity`, unpaired surrogate escapes included, no control characters in strings. The caller checks
//! once that the text is UTF-8. Nothing recurses: nested values are walked with one bit per level.

use std::fmt;

/// Levels of nesting that are walked; Python's own limit is its recursion limit of 1000.
pub const MAX_DEPTH: usize = 1024;

/// Why a text is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonError {
    /// Byte offset at which it was noticed.
    pub position: usize,
    /// What was expected or found.
    pub reason: &'static str,
}

impl fmt::Display for JsonError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at byte {}", self.reason, self.position)
    }
}

/// The result type of the scanner.
pub type JsonResult<T> = std::result::Result<T, JsonError>;

/// A string's contents, without its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StringToken {
    /// First byte after the opening quote.
    pub start: usize,
    /// The closing quote.
    pub end: usize,
    /// Whether it holds escapes, so that its bytes are not its value.
    pub escaped: bool,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `{...}`
    Object,
    /// `[...]`
    Array,
    /// `"..."`
    String(StringToken),
    /// A number, `NaN` and the infinities included.
    Number,
    /// `true` or `false`.
    Bool(bool),
    /// `null`
    Null,
}

/// A value's place in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value {
    /// What it is.
    pub kind: Kind,
    /// Its first byte.
    pub start: usize,
    /// The byte after its last.
    pub end: usize,
}

impl Value {
    /// Whether Python would take the decoded value for true.
    #[must_use]
    pub fn is_truthy(&self, text: &[u8]) -> bool {
        match self.kind {
            Kind::Null | Kind::Bool(false) => false,
            Kind::Bool(true) => true,
            Kind::String(token) => token.end > token.start,
            Kind::Number => self.number(text) != Some(0.0),
            Kind::Object | Kind::Array => text[self.start + 1..self.end - 1].iter().any(|byte| !is_whitespace(*byte)),
        }
    }

    /// The number's value; `None` for anything else.
    #[must_use]
    pub fn number(&self, text: &[u8]) -> Option<f64> {
        match self.kind {
            Kind::Number => match &text[self.start..self.end] {
                [digit @ b'0'..=b'9'] => Some(f64::from(digit - b'0')),
                digits => std::str::from_utf8(digits).ok()?.parse().ok(),
            },
            _ => None,
        }
    }
}

/// Walks a JSON text. All methods leave the position after what they returned.
#[derive(Debug, Clone)]
pub struct Scanner<'a> {
    text: &'a [u8],
    position: usize,
}

impl<'a> Scanner<'a> {
    /// A scanner at an offset of a text.
    #[must_use]
    pub fn new(text: &'a [u8], position: usize) -> Self {
        Self { text, position }
    }

    /// Where the scanner stands.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// The byte at the scanner's place.
    #[inline]
    #[must_use]
    pub fn peek(&self) -> Option<u8> {
        self.text.get(self.position).copied()
    }

    /// Steps over white space.
    #[inline(always)]
    pub fn skip_whitespace(&mut self) {
        while self.peek().is_some_and(is_whitespace) {
            self.position += 1;
        }
    }

    /// Makes an error at the scanner's place.
    #[cold]
    #[must_use]
    pub fn error(&self, reason: &'static str) -> JsonError {
        JsonError { position: self.position, reason }
    }

    /// Steps over the opening brace; tells whether a member follows. An empty object is passed whole.
    pub fn open_object(&mut self) -> JsonResult<bool> {
        if self.peek() != Some(b'{') {
            return Err(self.error("expected an object"));
        }
        self.position += 1;
        self.skip_whitespace();
        if self.peek() == Some(b'}') {
            self.position += 1;
            return Ok(false);
        }
        Ok(true)
    }

    /// Reads a member's key and steps to its value.
    #[inline(always)]
    pub fn key(&mut self) -> JsonResult<StringToken> {
        let key = self.string()?;
        // What Python and most others write; anything else takes the careful way.
        if let Some([b':', b' ', first]) = self.text[self.position..].first_chunk::<3>()
            && *first > b' '
        {
            self.position += 2;
            return Ok(key);
        }
        self.skip_whitespace();
        if self.peek() != Some(b':') {
            return Err(self.error("expected ':'"));
        }
        self.position += 1;
        self.skip_whitespace();
        Ok(key)
    }

    /// After a member's value: true and at the next key, or false and after the closing brace.
    #[inline(always)]
    pub fn next_member(&mut self) -> JsonResult<bool> {
        if self.text[self.position..].first_chunk::<3>() == Some(b", \"") {
            self.position += 2;
            return Ok(true);
        }
        self.skip_whitespace();
        match self.peek() {
            Some(b',') => {
                self.position += 1;
                self.skip_whitespace();
                Ok(true)
            }
            Some(b'}') => {
                self.position += 1;
                Ok(false)
            }
            _ => Err(self.error("expected ',' or '}'")),
        }
    }

    /// Reads a string.
    #[inline(always)]
    pub fn string(&mut self) -> JsonResult<StringToken> {
        if self.peek() != Some(b'"') {
            return Err(self.error("expected a string"));
        }
        let start = self.position + 1;
        let end = start + plain_length(&self.text[start..]);
        if self.text.get(end) == Some(&b'"') {
            self.position = end + 1;
            return Ok(StringToken { start, end, escaped: false });
        }
        self.position = end;
        self.rest_of_string(start)
    }

    /// Reads on from the first byte that needs a closer look.
    #[inline(never)]
    fn rest_of_string(&mut self, start: usize) -> JsonResult<StringToken> {
        let mut escaped = false;
        loop {
            match self.peek() {
                Some(b'"') => {
                    let end = self.position;
                    self.position += 1;
                    return Ok(StringToken { start, end, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.skip_escape()?;
                }
                Some(_) => return Err(self.error("control character in a string")),
                None => return Err(self.error("unterminated string")),
            }
            self.position += plain_length(&self.text[self.position..]);
        }
    }

    fn skip_escape(&mut self) -> JsonResult<()> {
        match self.text.get(self.position + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.position += 2;
                Ok(())
            }
            Some(b'u') if hex_unit(self.text, self.position + 2).is_some() => {
                self.position += 6;
                Ok(())
            }
            _ => Err(self.error("invalid escape")),
        }
    }

    /// Steps over one value of any kind.
    #[inline]
    pub fn value(&mut self) -> JsonResult<Value> {
        let start = self.position;
        let kind = match self.peek() {
            Some(b'n') if self.take_null() => Kind::Null,
            Some(b'"') => Kind::String(self.string()?),
            Some(b'{') => {
                self.skip_container()?;
                Kind::Object
            }
            Some(b'[') => {
                self.skip_container()?;
                Kind::Array
            }
            _ => self.scalar()?,
        };
        Ok(Value { kind, start, end: self.position })
    }

    /// Steps over one value that nobody wants to know.
    #[inline]
    pub fn skip(&mut self) -> JsonResult<()> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'n') if self.take_null() => Ok(()),
            Some(b'{' | b'[') => self.skip_container(),
            _ => self.scalar().map(drop),
        }
    }

    /// Steps over `null`, if that is what stands here.
    #[inline]
    pub fn take_null(&mut self) -> bool {
        let is_null = self.text[self.position..].first_chunk::<4>() == Some(b"null");
        if is_null {
            self.position += 4;
        }
        is_null
    }

    fn scalar(&mut self) -> JsonResult<Kind> {
        let (word, kind): (&[u8], Kind) = match self.peek() {
            Some(b'n') => (b"null", Kind::Null),
            Some(b't') => (b"true", Kind::Bool(true)),
            Some(b'f') => (b"false", Kind::Bool(false)),
            Some(b'N') => (b"NaN", Kind::Number),
            Some(b'I') => (b"Infinity", Kind::Number),
            Some(b'-') if self.text.get(self.position + 1) == Some(&b'I') => (b"-Infinity", Kind::Number),
            Some(b'-' | b'0'..=b'9') => return self.number(),
            _ => return Err(self.error("expected a value")),
        };
        if !self.text[self.position..].starts_with(word) {
            return Err(self.error("expected a value"));
        }
        self.position += word.len();
        Ok(kind)
    }

    fn number(&mut self) -> JsonResult<Kind> {
        if self.peek() == Some(b'-') {
            self.position += 1;
        }
        match self.peek() {
            Some(b'0') => self.position += 1,
            Some(b'1'..=b'9') => self.skip_digits(),
            _ => return Err(self.error("expected a digit")),
        }
        if self.peek() == Some(b'.') {
            self.position += 1;
            self.some_digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.position += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.position += 1;
            }
            self.some_digits()?;
        }
        Ok(Kind::Number)
    }

    fn some_digits(&mut self) -> JsonResult<()> {
        let start = self.position;
        self.skip_digits();
        if self.position == start { Err(self.error("expected a digit")) } else { Ok(()) }
    }

    #[inline]
    fn skip_digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.position += 1;
        }
    }

    /// Walks an object or array without recursion.
    fn skip_container(&mut self) -> JsonResult<()> {
        let mut levels = Levels::default();
        loop {
            // At the first byte of a value.
            match self.peek() {
                Some(open @ (b'{' | b'[')) => {
                    let is_object = open == b'{';
                    levels.push(is_object).map_err(|()| self.error("nested too deeply"))?;
                    self.position += 1;
                    self.skip_whitespace();
                    if self.peek() == Some(if is_object { b'}' } else { b']' }) {
                        self.position += 1;
                        levels.pop();
                    } else {
                        if is_object {
                            self.key()?;
                        }
                        continue;
                    }
                }
                Some(b'"') => {
                    self.string()?;
                }
                _ => {
                    self.scalar()?;
                }
            }
            if !self.advance_to_value(&mut levels)? {
                return Ok(());
            }
        }
    }

    /// After a value inside a container: steps to the next value, closing what ends; false when all is closed.
    fn advance_to_value(&mut self, levels: &mut Levels) -> JsonResult<bool> {
        while levels.depth > 0 {
            self.skip_whitespace();
            let is_object = levels.top_is_object();
            match self.peek() {
                Some(b',') => {
                    self.position += 1;
                    self.skip_whitespace();
                    if is_object {
                        self.key()?;
                    }
                    return Ok(true);
                }
                Some(b'}') if is_object => self.position += 1,
                Some(b']') if !is_object => self.position += 1,
                _ => return Err(self.error(if is_object { "expected ',' or '}'" } else { "expected ',' or ']'" })),
            }
            levels.pop();
        }
        Ok(false)
    }
}

/// One bit per open container: set for an object.
#[derive(Default)]
struct Levels {
    bits: [u64; MAX_DEPTH / 64],
    depth: usize,
}

impl Levels {
    fn push(&mut self, is_object: bool) -> std::result::Result<(), ()> {
        let word = self.bits.get_mut(self.depth / 64).ok_or(())?;
        let bit = 1u64 << (self.depth % 64);
        if is_object {
            *word |= bit;
        } else {
            *word &= !bit;
        }
        self.depth += 1;
        Ok(())
    }

    fn pop(&mut self) {
        self.depth -= 1;
    }

    fn top_is_object(&self) -> bool {
        let top = self.depth - 1;
        self.bits[top / 64] >> (top % 64) & 1 == 1
    }
}

#[inline]
fn is_whitespace(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// How many bytes from the start are neither a quote, a backslash nor a control character.
#[inline]
fn plain_length(text: &[u8]) -> usize {
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
fn hex_unit(text: &[u8], position: usize) -> Option<u16> {
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

#[cfg(test)]
mod tests;
