//! Decompression stays within its bound whatever it is fed, and undoes compression. The first byte chooses.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pyworker_native::codec::compress::Compression;

const MAX_BYTES: u64 = 64 << 10;

fuzz_target!(|input: &[u8]| {
    let Some((choice, data)) = input.split_first() else { return };
    let compression = Compression::ALL[usize::from(*choice) % Compression::ALL.len()];
    if let Ok(unpacked) = compression.decompress(data, MAX_BYTES) {
        assert!(unpacked.len() as u64 <= MAX_BYTES);
    }
    if choice & 0x80 != 0 && data.len() < 4096 {
        let packed = compression.compress(data).expect("compressing works");
        assert_eq!(compression.decompress(&packed, data.len() as u64).expect("what we pack unpacks"), data);
    }
});
