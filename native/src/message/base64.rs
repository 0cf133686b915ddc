//! Base64 as Python's `base64.b64decode` reads it, decoded in place.

use base64_simd::STANDARD;

/// Why a body is not base64, in Python's words.
pub(super) type Base64Error = &'static str;

/// Decodes the text at `start..end` of the buffer in place; returns where the decoded bytes end.
/// On an error the buffer is as it was.
pub(super) fn decode_in_place(buffer: &mut [u8], start: usize, end: usize) -> Result<usize, Base64Error> {
    let text = buffer.get_mut(start..end).ok_or("range outside the message")?;
    if STANDARD.check(text).is_ok() {
        let decoded = STANDARD.decode_inplace(text).map_err(|_| "not base64")?;
        return Ok(start + decoded.len());
    }
    let decoded = decode_lenient(text)?;
    text[..decoded.len()].copy_from_slice(&decoded);
    Ok(start + decoded.len())
}

/// What Python does unless asked to validate: characters outside the alphabet are skipped, the padding that
/// completes a group ends the data, stray padding is skipped.
fn decode_lenient(text: &[u8]) -> Result<Vec<u8>, Base64Error> {
    let mut output = Vec::with_capacity(text.len() / 4 * 3);
    let mut group_length = 0u32;
    let mut padding = 0u32;
    let mut bits = 0u32;
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' if group_length >= 2 => {
                padding += 1;
                if group_length + padding >= 4 {
                    return Ok(output);
                }
                continue;
            }
            _ => continue,
        };
        padding = 0;
        bits = bits << 6 | u32::from(value);
        if group_length > 0 {
            output.push((bits >> (6 - 2 * group_length)) as u8);
        }
        group_length = (group_length + 1) % 4;
    }
    match group_length {
        0 => Ok(output),
        1 => Err("number of base64 characters cannot be 1 more than a multiple of 4"),
        _ => Err("incorrect base64 padding"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    fn decode(text: &[u8]) -> Option<Vec<u8>> {
        let mut buffer = [b"..", text, b".."].concat();
        let untouched = buffer.clone();
        match decode_in_place(&mut buffer, 2, 2 + text.len()) {
            Ok(end) => Some(buffer[2..end].to_vec()),
            Err(_) => {
                assert_eq!(buffer, untouched);
                None
            }
        }
    }

    #[test]
    fn reads_what_python_reads() {
        // The right side is what CPython 3.11's base64.b64decode returned.
        let cases: &[(&[u8], Option<&[u8]>)] = &[
            (b"AAA", None),
            (b"A===", None),
            (b"AA==BB", Some(b"\0")),
            (b"AA=A", None),
            (b"AA=", None),
            (b"=AAA", None),
            (b"A=AA", None),
            (b"AAAA=", Some(b"\0\0\0")),
            (b"AAAA==", Some(b"\0\0\0")),
            (b"AA\n==", Some(b"\0")),
            (b"AA=\nA=", Some(b"\0\0")),
            (b"", Some(b"")),
            (b"====", Some(b"")),
            (b"A=A=AA==", Some(b"\0\0\0")),
            (b"AB==", Some(b"\0")),
            (b"W1tdLCB7\nfSwgbnVsbF0=\n", Some(b"[[], {}, null]")),
            ("W1té0=".as_bytes(), Some(b"[[t")),
        ];
        for (text, expected) in cases {
            assert_eq!(decode(text).as_deref(), *expected, "{}", String::from_utf8_lossy(text));
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back_whatever_stands_between(
            data in proptest::collection::vec(any::<u8>(), 0..80), at: proptest::sample::Index, noise in "[ \n\r.é-]{0,5}",
        ) {
            let mut text = STANDARD.encode_to_string(&data);
            let place = at.index(text.trim_end_matches('=').len() + 1);
            text.insert_str(place, &noise);
            prop_assert_eq!(decode(text.as_bytes()), Some(data));
        }

        #[test]
        fn any_bytes_are_decoded_or_left_as_they_were(text in "[A-Za-z0-9+/=]{0,12}", raw: Vec<u8>) {
            for text in [text.as_bytes(), &raw] {
                // `decode` looks at what was left.
                if let Some(decoded) = decode(text) {
                    prop_assert!(decoded.len() <= text.len() / 4 * 3 + 2);
                }
            }
        }
    }
}
