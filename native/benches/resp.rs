//! RESP, per message: a fetch's answer and a batch of acknowledgements.
//! Run with `cargo bench --no-default-features --bench resp`.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pyworker_native::wire::resp::{CommandWriter, Frame, FrameScanner, Limits, decode};

/// Messages of one batch, and the size of a stock client's small message.
const BATCH: usize = 100;
const MESSAGE_BYTES: usize = 860;

fn fetch_answer() -> Vec<u8> {
    let mut bytes = format!("*3\r\n:1\r\n*0\r\n*{}\r\n:1\r\n:1\r\n", BATCH + 2).into_bytes();
    for _ in 0..BATCH {
        bytes.extend_from_slice(format!("${MESSAGE_BYTES}\r\n").as_bytes());
        bytes.extend_from_slice(&[b'x'; MESSAGE_BYTES]);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn reading(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("resp");
    group.throughput(Throughput::Elements(BATCH as u64));
    let bytes = fetch_answer();
    let (frame, used) = decode(&bytes, &Limits::default()).unwrap().unwrap();
    assert_eq!(used, bytes.len());
    assert!(matches!(frame, Frame::Array(groups) if groups.len() == 3));
    group.bench_function("decode a fetch's answer", |bencher| {
        bencher.iter(|| decode(black_box(&bytes), &Limits::default()));
    });
    group.bench_function("scan a fetch's answer in pieces", |bencher| {
        bencher.iter(|| {
            let mut scanner = FrameScanner::new(Limits::default());
            let ends = (0..bytes.len()).step_by(16 << 10).map(|end| scanner.advance(&bytes[..end]));
            assert!(ends.flatten().all(|end| end.is_none()));
            scanner.advance(black_box(&bytes))
        });
    });
    group.finish();
}

fn writing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("resp");
    group.throughput(Throughput::Elements(BATCH as u64));
    let mut out = Vec::new();
    group.bench_function("write acknowledgements", |bencher| {
        bencher.iter(|| {
            out.clear();
            for (name, key) in [("HDEL", "unacked"), ("ZREM", "unacked_index")] {
                let mut command = CommandWriter::new(&mut out, BATCH + 2);
                command.arg(name).arg(key);
                for tag in 0..BATCH as u64 {
                    command.arg_numbered(b"pyw:celery@host:1234:abcd:", 1_000_000 + tag * 512);
                }
            }
            black_box(out.len())
        });
    });
    group.finish();
}

criterion_group!(benches, reading, writing);
criterion_main!(benches);
