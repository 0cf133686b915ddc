//! The engine's own structures: ETA heap, prefetch ledger, pool link.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::hint::black_box;
use std::os::fd::AsFd;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pyworker_native::config::PrefetchConfig;
use pyworker_native::eta::EtaHeap;
use pyworker_native::pool::child::{ChildEnd, Claim};
use pyworker_native::pool::frames::{JobFrame, Outcome};
use pyworker_native::pool::parent::ParentEnd;
use pyworker_native::qos::{PoolLoad, PrefetchLedger};

const ETA_COUNT: u64 = 100_000;

fn eta_heap(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("eta heap");
    group.throughput(Throughput::Elements(ETA_COUNT));
    group.bench_function("push and pop 100,000", |bencher| {
        bencher.iter_batched(
            EtaHeap::new,
            |mut heap| {
                for tag in 0..ETA_COUNT {
                    heap.push((tag.wrapping_mul(7919) % ETA_COUNT) as f64, tag);
                }
                let mut due = Vec::with_capacity(ETA_COUNT as usize);
                heap.pop_due(f64::MAX, ETA_COUNT as usize, &mut due);
                assert_eq!(due.len() as u64, ETA_COUNT);
                due
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn ledger(criterion: &mut Criterion) {
    let config = PrefetchConfig {
        multiplier: 4,
        strict: false,
        window_s: 0.02,
        reduces_after_loss: true,
        max_reserved_bytes: 1 << 28,
    };
    criterion.bench_function("ledger: one message in and out", |bencher| {
        let mut ledger = PrefetchLedger::new(config, 2);
        bencher.iter(|| {
            ledger.on_received(900);
            ledger.on_run_time(12e-6);
            ledger.on_released(900);
            black_box(ledger.demand(PoolLoad { busy: 2, ..PoolLoad::default() }))
        });
    });
}

fn link(criterion: &mut Criterion) {
    let (mut parent, socket) = ParentEnd::create(1 << 20).unwrap();
    let memory = parent.memory_file().as_fd().try_clone_to_owned().unwrap();
    parent.set_start_deadline(u64::MAX);
    let mut child = ChildEnd::open(memory, socket).unwrap();
    let body = [b'x'; 100];
    let headers = [b'h'; 500];
    let job = JobFrame {
        sequence: 0,
        task_index: 0,
        flags: 0,
        headers: &headers,
        properties: b"{}",
        body: &body,
        content_type: b"application/json",
        content_encoding: b"utf-8",
    };
    let mut group = criterion.benchmark_group("pool link");
    group.throughput(Throughput::Elements(100));
    group.bench_function("100 jobs there and back", |bencher| {
        bencher.iter(|| {
            for number in 0..100 {
                assert!(parent.hand_over(&job, number, 1).unwrap());
            }
            while let Claim::Job(sequence) = child.try_claim(|job| job.sequence).unwrap() {
                child.store(sequence, b"celery-task-meta-0", &body, true).unwrap();
                child.finish(sequence, Outcome::Success, 0.0, b"", || Ok(())).unwrap();
            }
            parent.collect_started(|handed, _| {
                black_box(handed);
            });
            let mut finished = 0;
            while let Some(sequence) = parent
                .next_frame(|frame| match frame {
                    pyworker_native::pool::frames::ChildFrame::Finish { sequence, .. } => sequence,
                    _ => 0,
                })
                .unwrap()
            {
                finished += u64::from(sequence != 0 && parent.finished(sequence).is_some());
            }
            assert_eq!(finished, 100);
        });
    });
    group.finish();
}

criterion_group!(benches, eta_heap, ledger, link);
criterion_main!(benches);
