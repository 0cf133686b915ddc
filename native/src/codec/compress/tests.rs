#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use base64_simd::STANDARD;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

const GOLDEN: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/compressed.json"));

fn bytes(value: &Value) -> Vec<u8> {
    STANDARD.decode_to_vec(value.as_str().unwrap()).unwrap()
}

#[test]
fn reads_what_kombu_compressed() {
    let cases: Vec<Value> = serde_json::from_str(GOLDEN).unwrap();
    assert!(cases.len() > 20);
    for case in cases {
        let (name, content_type) = (case["name"].as_str().unwrap(), case["content_type"].as_str().unwrap());
        assert_eq!(Compression::from_name(name).unwrap().content_type(), content_type);
        for key in [name, content_type] {
            let data = bytes(&case["data"]);
            let unpacked = decompress(key, &bytes(&case["packed"]), data.len() as u64);
            assert_eq!(unpacked.as_deref(), Ok(data.as_slice()), "{key}, {} bytes", data.len());
        }
    }
}

#[test]
fn refuses_what_kombu_does_not_know() {
    for name in ["", "deflate", "ZLIB", "application/gzip"] {
        assert_eq!(compress(name, b"").unwrap_err().kind(), ErrorKind::Config);
        assert_eq!(decompress(name, b"", 1).unwrap_err().kind(), ErrorKind::Config);
    }
}

#[test]
fn a_bomb_is_refused_at_its_bound() {
    let data = vec![0; 20 << 20];
    for compression in Compression::ALL {
        let packed = compression.compress(&data).unwrap();
        assert!(packed.len() < data.len() / 100, "{compression:?}");
        let error = compression.decompress(&packed, 1 << 20).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{compression:?}: {error}");
        assert!(error.message().contains("1048576 bytes"), "{error}");
        let exact = data.len() as u64;
        assert_eq!(compression.decompress(&packed, exact - 1).unwrap_err().kind(), ErrorKind::TooLarge);
        assert_eq!(compression.decompress(&packed, exact).unwrap().len(), data.len());
    }
}

#[test]
fn every_truncation_is_refused() {
    let data: Vec<u8> = (0..300u32).flat_map(|value| (value * 7919).to_le_bytes()).collect();
    for compression in Compression::ALL {
        let packed = compression.compress(&data).unwrap();
        for length in usize::from(compression == Compression::Bzip2)..packed.len() {
            let outcome = compression.decompress(&packed[..length], 1 << 20);
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Malformed, "{compression:?} cut to {length}");
        }
    }
}

#[test]
fn concatenated_streams_are_one_value_and_trailing_junk_is_ignored() {
    for compression in [Compression::Bzip2, Compression::Lzma] {
        let twice = [compression.compress(b"one ").unwrap(), compression.compress(b"two").unwrap()].concat();
        assert_eq!(compression.decompress(&twice, 100).unwrap(), b"one two", "{compression:?}");
        let trailed = [&twice, b"junk, long enough to be looked at".as_slice()].concat();
        assert_eq!(compression.decompress(&trailed, 100).unwrap(), b"one two", "{compression:?}");
    }
    let frames = [Compression::Zstd.compress(b"one ").unwrap(), Compression::Zstd.compress(b"two").unwrap()].concat();
    assert_eq!(Compression::Zstd.decompress(&frames, 100).unwrap(), b"one two");
    let trailed = [Compression::Zlib.compress(b"one").unwrap(), b"junk".to_vec()].concat();
    assert_eq!(Compression::Zlib.decompress(&trailed, 100).unwrap(), b"one");
}

proptest! {
    #[test]
    fn what_is_compressed_comes_back(data in prop::collection::vec(any::<u8>(), 0..2000)) {
        for compression in Compression::ALL {
            let packed = compression.compress(&data).unwrap();
            prop_assert_eq!(&compression.decompress(&packed, data.len() as u64).unwrap(), &data);
        }
    }

    #[test]
    fn damaged_data_never_exceeds_the_bound(
        data in prop::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        for compression in Compression::ALL {
            let mut packed = compression.compress(&data).unwrap();
            let index = at.index(packed.len());
            packed[index] = byte;
            if let Ok(unpacked) = compression.decompress(&packed, 1000) {
                prop_assert!(unpacked.len() <= 1000);
            }
        }
    }
}
