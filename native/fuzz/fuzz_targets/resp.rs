//! Whatever a server or somebody in between sends: no panic, no hang, no allocation beyond the input's
//! size, and the scanner finds the same end as the decoder.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pyworker_native::wire::resp::{FrameScanner, Limits, decode};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { max_bulk_bytes: 1 << 20, max_elements: 1 << 20, ..Limits::default() };
    let whole = decode(bytes, &limits);
    if let Ok(Some((_, used))) = &whole {
        assert_eq!(FrameScanner::new(limits).advance(bytes).ok(), Some(Some(*used)));
        // In two pieces the scanner comes to the same end.
        let mut scanner = FrameScanner::new(limits);
        let half = used / 2;
        assert!(scanner.advance(&bytes[..half]).is_ok_and(|end| end.is_none()));
        assert_eq!(scanner.advance(bytes).ok(), Some(Some(*used)));
    }
});
