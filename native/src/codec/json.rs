//! A JSON scanner that finds values without building them, and the few conversions that go with it.
//!
//! It accepts exactly what Python's `json.loads` accepts of a `str`: RFC 8259 plus `NaN`, `Infinity` and
//! `-Infinity`, unpaired surrogate escapes included, no control characters in strings. The caller checks
//! once that the text is UTF-8. Nothing recurses: nested values are walked with one bit per level.

mod text;

use std::fmt;

pub use self::text::{escape_into, unescape_into};
use self::text::{hex_unit, plain_length};

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
    String {
        /// Whether it holds escapes.
        escaped: bool,
    },
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
            Kind::String { .. } => self.end - self.start > 2,
            Kind::Number => self.number(text) != Some(0.0),
            Kind::Object | Kind::Array => text[self.start + 1..self.end - 1].iter().any(|byte| !is_whitespace(*byte)),
        }
    }

    /// The string's contents; `None` for anything else.
    #[inline]
    #[must_use]
    pub fn string(&self) -> Option<StringToken> {
        match self.kind {
            Kind::String { escaped } => Some(StringToken { start: self.start + 1, end: self.end - 1, escaped }),
            _ => None,
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
            Some(b'"') => Kind::String { escaped: self.string()?.escaped },
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

#[cfg(test)]
mod tests;
