//! Whatever a caller of the probes sends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pyworker_native::probes::http::{Request, parse};

fuzz_target!(|bytes: &[u8]| {
    match parse(bytes) {
        Some(Request::Get(path) | Request::Head(path)) => assert!(path.starts_with('/') && !path.contains('?')),
        Some(Request::Other) => {}
        // More can only complete it.
        None => assert_eq!(parse(&bytes[..bytes.len() / 2]), None),
    }
});
