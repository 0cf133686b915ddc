//! The JSON scanner stays inside its text, skips what it reads, and strings survive unescaping and escaping.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pyworker_native::codec::json::{Scanner, escape_into, unescape_into};
use pyworker_native::codec::plain_json::is_plain_json;

fuzz_target!(|text: &[u8]| {
    let _ = is_plain_json(text);
    let mut scanner = Scanner::new(text, 0);
    let read = scanner.value();
    let mut skipping = Scanner::new(text, 0);
    assert_eq!(skipping.skip().is_ok(), read.is_ok());
    let Ok(value) = read else { return };
    assert_eq!(scanner.position(), value.end);
    assert_eq!(skipping.position(), value.end);
    assert!(value.start <= value.end && value.end <= text.len());
    let _ = (value.is_truthy(text), value.number(text));
    if let Some(token) = value.string() {
        let mut plain = Vec::new();
        if unescape_into(&text[token.start..token.end], &mut plain).is_ok()
            && let Ok(plain) = String::from_utf8(plain)
        {
            let mut escaped = Vec::new();
            escape_into(&plain, &mut escaped);
            let again = Scanner::new(&escaped, 0).string().expect("what we escape is a string");
            let mut back = Vec::new();
            unescape_into(&escaped[again.start..again.end], &mut back).expect("what we escape can be read");
            assert_eq!(back, plain.as_bytes());
        }
    }
});
