//! Builds the envelope that kombu's virtual transport would send, byte for byte.

use base64_simd::{Out, STANDARD};

use crate::codec::json::escape_into;

const BODY: &[u8] = b"{\"body\": \"";
const CONTENT_ENCODING: &[u8] = b"\", \"content-encoding\": ";
const CONTENT_TYPE: &[u8] = b", \"content-type\": ";
const HEADERS: &[u8] = b", \"headers\": ";
const PROPERTIES: &[u8] = b", \"properties\": ";

/// Puts a message together: the body as base64, headers and properties as the JSON objects given.
///
/// Keys, order and spacing are those of `kombu.utils.json.dumps` of a virtual channel's message. The
/// properties must say `"body_encoding": "base64"` and carry the delivery tag, as kombu's do.
#[must_use]
pub fn build_envelope(
    body: &[u8],
    headers_json: &[u8],
    properties_json: &[u8],
    content_type: &str,
    content_encoding: &str,
) -> Vec<u8> {
    let fixed = BODY.len() + CONTENT_ENCODING.len() + CONTENT_TYPE.len() + HEADERS.len() + PROPERTIES.len() + 5;
    let encoded_length = STANDARD.encoded_length(body.len());
    let text_length = content_type.len() + content_encoding.len();
    let mut message =
        Vec::with_capacity(fixed + encoded_length + text_length + headers_json.len() + properties_json.len());
    message.extend_from_slice(BODY);
    let start = message.len();
    message.resize(start + encoded_length, 0);
    let _ = STANDARD.encode(body, Out::from_slice(&mut message[start..]));
    message.extend_from_slice(CONTENT_ENCODING);
    escape_into(content_encoding, &mut message);
    message.extend_from_slice(CONTENT_TYPE);
    escape_into(content_type, &mut message);
    message.extend_from_slice(HEADERS);
    message.extend_from_slice(headers_json);
    message.extend_from_slice(PROPERTIES);
    message.extend_from_slice(properties_json);
    message.push(b'}');
    message
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn equals_what_kombu_dumps() {
        // kombu.utils.json.dumps of {"body": b64encode(b'[[2, 3], {}, {"chain": null}]'), ...}
        let expected = concat!(
            r#"{"body": "W1syLCAzXSwge30sIHsiY2hhaW4iOiBudWxsfV0=", "content-encoding": "utf-8", "#,
            r#""content-type": "application/json", "headers": {"task": "t"}, "properties": {"priority": 0}}"#
        );
        let built = build_envelope(
            br#"[[2, 3], {}, {"chain": null}]"#,
            br#"{"task": "t"}"#,
            br#"{"priority": 0}"#,
            "application/json",
            "utf-8",
        );
        assert_eq!(String::from_utf8(built).unwrap(), expected);
    }

    #[test]
    fn allocates_once() {
        let built = build_envelope(&[7; 1000], b"{}", b"{}", "application/json", "utf-8");
        assert_eq!(built.len(), built.capacity());
    }
}
