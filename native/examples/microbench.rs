//! Runs the engine's inner operations on request, for the suites of `bench/micro` (pytest-benchmark).
//!
//! Reads lines `name count` from standard input, runs the operation that often, checks what came out, and answers
//! each line with the number of operations. Needs no Python: `cargo run --release --no-default-features --example
//! microbench`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::hint::black_box;
use std::io::{BufRead, Write};
use std::os::fd::AsFd;

use pyworker_native::codec::compress::{compress, decompress};
use pyworker_native::config::PrefetchConfig;
use pyworker_native::eta::EtaHeap;
use pyworker_native::message::{build_envelope, parse_envelope};
use pyworker_native::pool::child::{ChildEnd, Claim};
use pyworker_native::pool::frames::{ChildFrame, JobFrame, Outcome};
use pyworker_native::pool::parent::ParentEnd;
use pyworker_native::qos::{PoolLoad, PrefetchLedger};
use pyworker_native::wire::resp::{CommandWriter, Limits, decode};

/// A message of a stock client, as `add.delay(2, 3)` puts it into the queue.
const MESSAGE: &str = include_str!("message.json");

/// Jobs that cross the pool link together, as they do under load.
const LINK_BATCH: u64 = 100;

fn main() {
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let (name, count) = line.split_once(' ').expect("a line is: name count");
        let count: u64 = count.parse().expect("the count is a number");
        run(name, count);
        println!("{count}");
        std::io::stdout().flush().unwrap();
    }
}

fn run(name: &str, count: u64) {
    match name {
        "resp-decode" => decode_replies(count),
        "resp-encode" => encode_commands(count),
        "envelope-parse" => parse_envelopes(count),
        "envelope-build" => build_envelopes(count),
        "eta" => hold_and_release(count),
        "ledger" => receive_and_release(count),
        "link" => hand_over_and_finish(count),
        other => match other.split_once(':') {
            Some(("compress", codec)) => compress_and_decompress(codec, count),
            _ => panic!("no operation is called {other}"),
        },
    }
}

fn decode_replies(count: u64) {
    let mut reply = b"*3\r\n".to_vec();
    for number in 0..3 {
        let text = format!("{MESSAGE}{number}");
        reply.extend_from_slice(format!("${}\r\n{text}\r\n", text.len()).as_bytes());
    }
    let limits = Limits::default();
    for _ in 0..count {
        let (frame, used) = decode(black_box(&reply), &limits).unwrap().unwrap();
        assert_eq!(used, reply.len());
        black_box(frame);
    }
}

fn encode_commands(count: u64) {
    let mut buffer = Vec::with_capacity(4096);
    for number in 0..count {
        buffer.clear();
        CommandWriter::new(&mut buffer, 4)
            .arg("SETEX")
            .arg_numbered(b"celery-task-meta-", number)
            .arg_u64(86_400)
            .arg(MESSAGE);
        assert!(buffer.starts_with(b"*4\r\n"));
        black_box(&buffer);
    }
}

fn parse_envelopes(count: u64) {
    let raw = MESSAGE.as_bytes();
    for _ in 0..count {
        black_box(parse_envelope(black_box(raw.to_vec()), u64::MAX).unwrap());
    }
}

fn build_envelopes(count: u64) {
    let envelope = parse_envelope(MESSAGE.as_bytes().to_vec(), u64::MAX).unwrap();
    for _ in 0..count {
        black_box(build_envelope(
            black_box(envelope.body()),
            envelope.headers(),
            envelope.properties(),
            envelope.content_type(),
            envelope.content_encoding(),
        ));
    }
}

fn hold_and_release(count: u64) {
    let mut heap = EtaHeap::new();
    for tag in 0..count {
        heap.push((tag.wrapping_mul(7919) % count) as f64, tag);
    }
    let mut due = Vec::new();
    heap.pop_due(f64::MAX, count as usize, &mut due);
    assert_eq!(due.len() as u64, count);
}

fn receive_and_release(count: u64) {
    let config = PrefetchConfig {
        multiplier: 4,
        strict: false,
        window_s: 0.02,
        reduces_after_loss: true,
        max_reserved_bytes: 1 << 28,
    };
    let mut ledger = PrefetchLedger::new(config, 2);
    for _ in 0..count {
        ledger.on_received(black_box(900));
        ledger.on_run_time(black_box(12e-6));
        ledger.on_released(black_box(900));
        black_box(ledger.demand(PoolLoad { busy: 2, ..PoolLoad::default() }));
    }
}

fn hand_over_and_finish(count: u64) {
    let (mut parent, socket) = ParentEnd::create(1 << 20).unwrap();
    let memory = parent.memory_file().as_fd().try_clone_to_owned().unwrap();
    parent.set_start_deadline(u64::MAX);
    let mut child = ChildEnd::open(memory, socket).unwrap();
    let job = JobFrame {
        sequence: 0,
        task_index: 0,
        flags: 0,
        headers: &[b'h'; 500],
        properties: b"{}",
        body: &[b'x'; 100],
        content_type: b"application/json",
        content_encoding: b"utf-8",
    };
    let mut finished = 0;
    for _ in 0..count.div_ceil(LINK_BATCH) {
        for number in 0..LINK_BATCH {
            assert!(parent.hand_over(&job, number, 1).unwrap());
        }
        while let Claim::Job(sequence) = child.try_claim(|job| job.sequence).unwrap() {
            child.store(sequence, b"celery-task-meta-0", &[b'r'; 100], true).unwrap();
            child.finish(sequence, Outcome::Success, 0.0, b"", || Ok(())).unwrap();
        }
        parent.collect_started(|handed, _| {
            black_box(handed);
        });
        while let Some(sequence) = parent
            .next_frame(|frame| match frame {
                ChildFrame::Finish { sequence, .. } => sequence,
                _ => 0,
            })
            .unwrap()
        {
            finished += u64::from(sequence != 0 && parent.finished(sequence).is_some());
        }
    }
    assert_eq!(finished, count.div_ceil(LINK_BATCH) * LINK_BATCH);
}

fn compress_and_decompress(codec: &str, count: u64) {
    let data = MESSAGE.repeat(10);
    for _ in 0..count {
        let (packed, content_type) = compress(codec, black_box(data.as_bytes())).unwrap();
        let unpacked = decompress(content_type, &packed, 1 << 20).unwrap();
        assert_eq!(unpacked.len(), data.len());
    }
}
