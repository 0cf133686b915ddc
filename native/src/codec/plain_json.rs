//! Whether a fast JSON decoder reads a text as kombu's does.

use memchr::memmem;

/// A run of fewer digits always fits into 64 bits.
const LONG_NUMBER_DIGITS: usize = 19;
/// What kombu marks typed values (dates, decimals, bytes) with.
const TYPE_MARKER: &[u8] = b"__type__";

/// Whether nothing in a JSON text is read differently by a decoder that knows neither kombu's typed values nor integers
/// of more than 64 bits. What such a decoder refuses is another matter: it says so.
///
/// The marker's letters may be written as escapes: any escape of the letters' range counts.
#[must_use]
pub fn is_plain_json(text: &[u8]) -> bool {
    !has_long_number(text)
        && memmem::find(text, TYPE_MARKER).is_none()
        && !memchr::memchr_iter(b'\\', text).any(|at| matches!(text[at + 1..], [b'u', b'0', b'0', b'5'..=b'7', ..]))
}

/// Looks at every 19th byte first: a run of that length holds one of them.
fn has_long_number(text: &[u8]) -> bool {
    let digits = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (LONG_NUMBER_DIGITS - 1..text.len()).step_by(LONG_NUMBER_DIGITS).filter(|at| text[*at].is_ascii_digit()).any(|at| {
        let before = text[..at].iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        before + digits(&text[at..]) >= LONG_NUMBER_DIGITS
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tells_what_is_plain() {
        for (text, expected) in [
            ("", true),
            (r#"{"a": [1, -2.5e3, "t\u00e9xt \" \\", null]}"#, true),
            ("123456789012345678", true),
            ("1234567890123456789", false),
            ("[0.1234567890123456789]", false),
            ("\"1234567890123456789\"", false),
            (r#"{"__type__": 1}"#, false),
            (r#"{"\u005f_type__": 1}"#, false),
            (r#"{"__t\u0079pe__": 1}"#, false),
            (r#""\u004f""#, true),
            ("\\", true),
            ("\\u00", true),
        ] {
            assert_eq!(is_plain_json(text.as_bytes()), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn finds_numbers_wherever_they_are(before in "[a0 ]{0,40}", digits in "[0-9]{1,30}", after in "[b9\"]{0,40}") {
            let text = format!("{before}{digits}{after}");
            let longest = text.split(|letter: char| !letter.is_ascii_digit()).map(str::len).max().unwrap_or(0);
            prop_assert_eq!(is_plain_json(text.as_bytes()), longest < LONG_NUMBER_DIGITS);
        }
    }
}
