//! Any bytes are an envelope or come back untouched; an envelope that is built again reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pyworker_native::message::{Parts, Protocol, build_envelope, parse_envelope};

fuzz_target!(|raw: &[u8]| {
    in_parts(raw);
    let envelope = match parse_envelope(raw.to_vec(), 1 << 20) {
        Ok(envelope) => envelope,
        Err((_, returned)) => {
            assert_eq!(returned, raw);
            return;
        }
    };
    if envelope.protocol() == Protocol::V2 {
        assert!(raw.len() > envelope.id().len());
    }
    assert!(!(envelope.eta_invalid() && envelope.eta_s().is_some()));
    let built = build_envelope(
        envelope.body(),
        envelope.headers(),
        br#"{"body_encoding": "base64"}"#,
        envelope.content_type(),
        envelope.content_encoding(),
    );
    let again = parse_envelope(built, u64::MAX).expect("what we build can be read");
    assert_eq!(again.body(), envelope.body());
    assert_eq!(again.headers(), envelope.headers());
    assert_eq!(again.id(), envelope.id());
    assert_eq!(again.task(), envelope.task());
    assert_eq!(again.content_type(), envelope.content_type());
    assert_eq!(again.eta_s().map(f64::to_bits), envelope.eta_s().map(f64::to_bits));
});

/// As AMQP and kombu's channels hand a message over: headers, properties and body beside each other.
fn in_parts(raw: &[u8]) {
    let (first, second) = (raw.len() / 3, raw.len() / 3 * 2);
    let parts = Parts {
        buffer: raw.to_vec(),
        headers: (0, first),
        properties: (first, second),
        body: (second, raw.len()),
        ..Parts::default()
    };
    match parts.into_envelope() {
        Ok(envelope) => assert_eq!(envelope.body(), &raw[second..]),
        Err((_, buffer)) => assert_eq!(buffer, raw),
    }
}
