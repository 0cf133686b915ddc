//! Envelopes and compression, per message. Run with `cargo bench --no-default-features --bench codec`.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pyworker_native::codec::compress::Compression;
use pyworker_native::message::{build_envelope, parse_envelope};

/// A message of a stock client: `add.delay(2, 3)`, 900 bytes.
const MESSAGE: &str = r#"{"body": "W1syLCAzXSwge30sIHsiY2FsbGJhY2tzIjogbnVsbCwgImVycmJhY2tzIjogbnVsbCwgImNoYWluIjogbnVsbCwgImNob3JkIjogbnVsbH1d", "content-encoding": "utf-8", "content-type": "application/json", "headers": {"lang": "py", "task": "proj.tasks.add", "id": "ed0e8963-77d9-4155-b5fc-6e6c3472451f", "shadow": null, "eta": null, "expires": null, "group": null, "group_index": null, "retries": 0, "timelimit": [null, null], "root_id": "ed0e8963-77d9-4155-b5fc-6e6c3472451f", "parent_id": null, "argsrepr": "(2, 3)", "kwargsrepr": "{}", "origin": "gen13357@web-1", "ignore_result": false, "replaced_task_nesting": 0, "stamped_headers": null, "stamps": {}}, "properties": {"correlation_id": "ed0e8963-77d9-4155-b5fc-6e6c3472451f", "reply_to": "be5bfc99-b566-3b80-8ef9-752eb3c069b1", "delivery_mode": 2, "delivery_info": {"exchange": "", "routing_key": "celery"}, "priority": 0, "body_encoding": "base64", "delivery_tag": "5d6d2f57-4443-4147-a0ea-82c494f49dc7"}}"#;

fn envelopes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("envelope");
    group.throughput(Throughput::Bytes(MESSAGE.len() as u64));
    let raw = MESSAGE.as_bytes().to_vec();
    group.bench_function("parse", |bencher| {
        bencher.iter_batched(|| raw.clone(), |raw| parse_envelope(raw, u64::MAX), BatchSize::SmallInput);
    });
    let with_eta = MESSAGE.replace(r#""eta": null"#, r#""eta": "2031-05-06T07:08:09.123456+00:00""#).into_bytes();
    group.bench_function("parse with eta", |bencher| {
        bencher.iter_batched(|| with_eta.clone(), |raw| parse_envelope(raw, u64::MAX), BatchSize::SmallInput);
    });
    let envelope = parse_envelope(raw, u64::MAX).unwrap();
    group.bench_function("build", |bencher| {
        bencher.iter(|| {
            build_envelope(
                black_box(envelope.body()),
                envelope.headers(),
                envelope.properties(),
                envelope.content_type(),
                envelope.content_encoding(),
            )
        });
    });
    group.finish();
}

fn compressions(criterion: &mut Criterion) {
    // Task arguments as they are: JSON that repeats itself.
    let data = MESSAGE.repeat(11).into_bytes();
    let mut group = criterion.benchmark_group("compression of 10 KB");
    group.throughput(Throughput::Bytes(data.len() as u64));
    for compression in Compression::ALL {
        let packed = compression.compress(&data).unwrap();
        group.bench_function(format!("compress {compression:?}"), |bencher| {
            bencher.iter(|| compression.compress(&data))
        });
        group.bench_function(format!("decompress {compression:?}"), |bencher| {
            bencher.iter(|| compression.decompress(black_box(&packed), 1 << 20));
        });
    }
    group.finish();
}

criterion_group!(benches, envelopes, compressions);
criterion_main!(benches);
