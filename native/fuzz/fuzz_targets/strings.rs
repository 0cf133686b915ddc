//! What stands in an envelope's strings: base64 bodies of any spelling, dates of any spelling.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pyworker_native::codec::json::escape_into;
use pyworker_native::message::{parse_envelope, parse_iso8601};

fuzz_target!(|text: &str| {
    if let Some(seconds) = parse_iso8601(text.as_bytes()) {
        // The years 1 to 9999, give or take an offset.
        assert!((-62_135_700_000.0..253_402_400_000.0).contains(&seconds));
    }
    let mut raw = br#"{"body": "#.to_vec();
    escape_into(text, &mut raw);
    raw.extend_from_slice(br#", "headers": {"id": "1", "task": "t", "eta": "#);
    escape_into(text, &mut raw);
    raw.extend_from_slice(br#", "expires": "#);
    escape_into(text, &mut raw);
    raw.extend_from_slice(br#"}, "properties": {"body_encoding": "base64"}}"#);
    match parse_envelope(raw.clone(), u64::MAX) {
        Ok(envelope) => {
            assert!(envelope.body().len() <= text.len() / 4 * 3 + 3);
            assert_eq!(envelope.eta_s().is_some(), envelope.expires_s().is_some());
        }
        Err((_, returned)) => assert_eq!(returned, raw),
    }
});
