//! Commands to bytes, appended to a buffer that the caller owns.

use std::io::Write as _;

/// Writes one command, argument by argument, without intermediate strings.
#[derive(Debug)]
pub struct CommandWriter<'a> {
    buffer: &'a mut Vec<u8>,
    missing: usize,
}

impl<'a> CommandWriter<'a> {
    /// Begins a command of `arguments` parts, its name included.
    pub fn new(buffer: &'a mut Vec<u8>, arguments: usize) -> Self {
        buffer.push(b'*');
        push_decimal(buffer, arguments as u64);
        buffer.extend_from_slice(b"\r\n");
        Self { buffer, missing: arguments }
    }

    /// An argument.
    pub fn arg(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let bytes = bytes.as_ref();
        self.length(bytes.len());
        self.buffer.extend_from_slice(bytes);
        self.buffer.extend_from_slice(b"\r\n");
        self
    }

    /// Each item as an argument.
    pub fn args(&mut self, items: impl IntoIterator<Item = impl AsRef<[u8]>>) -> &mut Self {
        for item in items {
            self.arg(item);
        }
        self
    }

    /// An argument that consists of a text and a number behind it.
    pub fn arg_numbered(&mut self, text: &[u8], number: u64) -> &mut Self {
        let mut digits = [0; 20];
        let digits = decimal(number, &mut digits);
        self.length(text.len() + digits.len());
        self.buffer.extend_from_slice(text);
        self.buffer.extend_from_slice(digits);
        self.buffer.extend_from_slice(b"\r\n");
        self
    }

    /// As `arg_numbered`, with zeros in front of the number up to a width.
    pub fn arg_zero_padded(&mut self, text: &[u8], number: u64, width: usize) -> &mut Self {
        let mut digits = [0; 20];
        let digits = decimal(number, &mut digits);
        let zeros = width.saturating_sub(digits.len());
        self.length(text.len() + zeros + digits.len());
        self.buffer.extend_from_slice(text);
        self.buffer.resize(self.buffer.len() + zeros, b'0');
        self.buffer.extend_from_slice(digits);
        self.buffer.extend_from_slice(b"\r\n");
        self
    }

    /// An unsigned integer as an argument.
    pub fn arg_u64(&mut self, number: u64) -> &mut Self {
        self.arg_numbered(b"", number)
    }

    /// A floating-point number as an argument, in the shortest form that reads back the same.
    pub fn arg_f64(&mut self, number: f64) -> &mut Self {
        let mut text = [0u8; 40];
        let mut rest = &mut text[..];
        let fits = write!(rest, "{number}").is_ok();
        let unused = rest.len();
        if fits {
            return self.arg(&text[..40 - unused]);
        }
        self.arg(format!("{number:e}"))
    }

    fn length(&mut self, length: usize) {
        debug_assert!(self.missing > 0, "more arguments than announced");
        self.missing = self.missing.saturating_sub(1);
        self.buffer.push(b'$');
        push_decimal(self.buffer, length as u64);
        self.buffer.extend_from_slice(b"\r\n");
    }
}

impl Drop for CommandWriter<'_> {
    fn drop(&mut self) {
        debug_assert!(self.missing == 0 || std::thread::panicking(), "{} arguments are missing", self.missing);
    }
}

/// Writes a command whose arguments are all at hand.
pub fn write_command(buffer: &mut Vec<u8>, arguments: &[&[u8]]) {
    let mut command = CommandWriter::new(buffer, arguments.len());
    for argument in arguments {
        command.arg(argument);
    }
}

fn push_decimal(buffer: &mut Vec<u8>, number: u64) {
    buffer.extend_from_slice(decimal(number, &mut [0; 20]));
}

fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}
