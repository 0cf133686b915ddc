//! Both ends of a pool link in one process: what one side does, the other sees.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use pyworker_native::clock::monotonic_ns;
use pyworker_native::pool::child::{ChildEnd, Claim, Waited};
use pyworker_native::pool::frames::{ChildFrame, JobFrame, Outcome};
use pyworker_native::pool::parent::ParentEnd;

const CAPACITY: usize = 65_536;

fn link() -> (ParentEnd, ChildEnd) {
    let (parent, socket) = ParentEnd::create(CAPACITY).unwrap();
    let memory = parent.memory_file().as_fd().try_clone_to_owned().unwrap();
    parent.set_start_deadline(u64::MAX);
    (parent, ChildEnd::open(memory, socket).unwrap())
}

fn job(body: &[u8]) -> JobFrame<'_> {
    JobFrame {
        sequence: 0,
        task_index: 3,
        flags: 0,
        headers: b"{}",
        properties: b"{}",
        body,
        content_type: b"application/json",
        content_encoding: b"utf-8",
    }
}

fn claim(child: &mut ChildEnd) -> Option<(u64, Vec<u8>)> {
    match child.try_claim(|job| (job.sequence, job.body.to_vec())).unwrap() {
        Claim::Job(job) => Some(job),
        Claim::Empty | Claim::Held | Claim::Shutdown => None,
    }
}

fn finish(child: &mut ChildEnd, sequence: u64) {
    child.finish(sequence, Outcome::Success, 0.5, b"done", || Ok(())).unwrap();
}

#[test]
fn a_job_goes_down_and_its_outcome_comes_up() {
    let (mut parent, mut child) = link();
    assert!(parent.hand_over(&job(b"[]"), 77, 10).unwrap());
    let (sequence, body) = claim(&mut child).unwrap();
    assert_eq!(body, b"[]");
    let mut started = Vec::new();
    parent.collect_started(|handed, at_ns| started.push((handed.job, at_ns)));
    assert_eq!(started.len(), 1);
    assert_eq!(started[0].0, 77);
    assert!(started[0].1 <= monotonic_ns());
    child.store(sequence, b"key", b"value", true).unwrap();
    finish(&mut child, sequence);
    let is_store = parent
        .next_frame(|frame| matches!(frame, ChildFrame::Store { sequence: of, is_success: true, key: b"key", value: b"value" } if of == sequence))
        .unwrap();
    assert_eq!(is_store, Some(true));
    let is_finish = parent
        .next_frame(|frame| matches!(frame, ChildFrame::Finish { outcome: Outcome::Success, text: b"done", .. }))
        .unwrap();
    assert_eq!(is_finish, Some(true));
    assert_eq!(parent.finished(sequence).unwrap().job, 77);
    assert_eq!(parent.outstanding(), 0);
}

#[test]
fn a_job_that_was_taken_back_is_skipped() {
    let (mut parent, mut child) = link();
    for number in 0..3u8 {
        assert!(parent.hand_over(&job(&[number]), u64::from(number), 10).unwrap());
    }
    assert_eq!(parent.take_back().unwrap().job, 2);
    assert_eq!(parent.take_back().unwrap().job, 1);
    assert!(parent.hand_over(&job(&[9]), 9, 10).unwrap());
    assert_eq!(claim(&mut child).unwrap().1, [0]);
    assert_eq!(claim(&mut child).unwrap().1, [9]);
    assert!(claim(&mut child).is_none());
}

#[test]
fn a_claimed_job_cannot_be_taken_back() {
    let (mut parent, mut child) = link();
    assert!(parent.hand_over(&job(b""), 1, 10).unwrap());
    claim(&mut child).unwrap();
    assert!(parent.take_back().is_none());
}

#[test]
fn nothing_starts_under_a_stale_lease() {
    let (mut parent, mut child) = link();
    parent.set_start_deadline(monotonic_ns());
    assert!(parent.hand_over(&job(b""), 1, 10).unwrap());
    assert!(matches!(child.try_claim(|_| ()).unwrap(), Claim::Held));
    parent.set_start_deadline(u64::MAX);
    assert!(matches!(child.try_claim(|_| ()).unwrap(), Claim::Job(())));
}

#[test]
fn frames_larger_than_the_ring_pass_both_ways() {
    let (mut parent, mut child) = link();
    let body = vec![5u8; 4 * CAPACITY];
    assert!(parent.hand_over(&job(&body), 1, 10).unwrap());
    let (sequence, got) = claim(&mut child).unwrap();
    assert_eq!(got, body);
    child.store(sequence, b"key", &body, true).unwrap();
    let length = parent.next_frame(|frame| match frame {
        ChildFrame::Store { value, .. } => value.len(),
        ChildFrame::Finish { .. } | ChildFrame::Flush { .. } => 0,
    });
    assert_eq!(length.unwrap(), Some(body.len()));
}

#[test]
fn remains_name_the_running_job_and_the_unstarted_ones() {
    let (mut parent, mut child) = link();
    for number in 0..4u64 {
        assert!(parent.hand_over(&job(b""), number, 10).unwrap());
    }
    let (first, _) = claim(&mut child).unwrap();
    finish(&mut child, first);
    claim(&mut child).unwrap();
    drop(child);
    while parent.next_frame(|_| ()).unwrap().is_some() {}
    parent.finished(first).unwrap();
    let remains = parent.remains();
    assert_eq!(remains.running.unwrap().job, 1);
    assert_eq!(remains.unstarted.iter().map(|handed| handed.job).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn a_doomed_job_waits_for_its_signal_at_the_end() {
    let (mut parent, mut child) = link();
    assert!(parent.hand_over(&job(b""), 1, 10).unwrap());
    let (sequence, _) = claim(&mut child).unwrap();
    assert!(parent.doom(sequence));
    let mut looks = 0;
    let result = child.finish(sequence, Outcome::Success, 0.0, b"", || {
        looks += 1;
        if looks < 3 {
            return Ok(());
        }
        Err(pyworker_native::error::Error::new(pyworker_native::error::ErrorKind::Internal, "the signal came"))
    });
    assert_eq!(result.unwrap_err().message(), "the signal came");
    assert!(parent.next_frame(|_| ()).unwrap().is_none(), "a doomed job must not report");
}

#[test]
fn a_job_that_survived_its_signal_ends_unless_the_signal_comes_again() {
    let (mut parent, mut child) = link();
    assert!(parent.hand_over(&job(b""), 1, 10).unwrap());
    let (sequence, _) = claim(&mut child).unwrap();
    let running = child.running_job();
    assert!(parent.doom(sequence));
    parent.signalled(sequence);
    running.set_put_off(true);
    let mut looks = 0;
    let finished = child.finish(sequence, Outcome::Success, 0.0, b"", || {
        looks += 1;
        match looks {
            // Longer than a signal that came may take.
            1 => thread::sleep(Duration::from_millis(1100)),
            5 => running.set_put_off(false),
            _ => {}
        }
        Ok(())
    });
    finished.unwrap();
    assert_eq!(looks, 5);
    assert!(!parent.doom(sequence), "it is over");
}

#[test]
fn a_soft_limit_hits_the_running_job_only() {
    let (mut parent, mut child) = link();
    assert!(parent.hand_over(&job(b""), 1, 10).unwrap());
    assert!(parent.hand_over(&job(b""), 2, 10).unwrap());
    let running = child.running_job();
    let (first, _) = claim(&mut child).unwrap();
    assert!(parent.mark_soft_limit(first));
    assert!(running.take_soft_limit());
    assert!(!running.take_soft_limit(), "the mark is gone after the first signal");
    finish(&mut child, first);
    assert!(!parent.mark_soft_limit(first));
    claim(&mut child).unwrap();
    assert!(!running.take_soft_limit());
}

#[test]
fn the_doorbell_wakes_a_sleeping_child_and_shutdown_ends_it() {
    let (mut parent, mut child) = link();
    let sleeper = thread::spawn(move || {
        let mut claimed = 0;
        loop {
            match child.try_claim(|_| ()).unwrap() {
                Claim::Job(()) => {
                    claimed += 1;
                    let sequence = child.running_job().sequence();
                    finish(&mut child, sequence);
                }
                Claim::Shutdown => return claimed,
                Claim::Empty | Claim::Held => assert_ne!(child.wait(-1).unwrap(), Waited::PeerGone),
            }
        }
    });
    for number in 0..100 {
        while !parent.hand_over(&job(b"[1]"), number, 1).unwrap() {}
        parent.ring().unwrap();
    }
    parent.shut_down().unwrap();
    assert_eq!(sleeper.join().unwrap(), 100);
}

#[test]
fn an_alerted_child_gets_its_job_or_sleeps_again() {
    let (mut parent, mut child) = link();
    let sleeper = thread::spawn(move || {
        // Alerted in vain, then alerted in time: a child that misses its job would hang here.
        let mut found = None;
        while found.is_none() {
            assert_ne!(child.wait(-1).unwrap(), Waited::PeerGone);
            found = claim(&mut child);
        }
        found.unwrap().1
    });
    for _ in 0..100 {
        parent.alert();
        thread::yield_now();
    }
    parent.alert();
    assert!(parent.hand_over(&job(b"[1]"), 1, 10).unwrap());
    parent.ring().unwrap();
    assert_eq!(sleeper.join().unwrap(), b"[1]");
}

#[test]
fn a_child_notices_that_the_engine_is_gone() {
    let (parent, mut child) = link();
    drop(parent);
    assert_eq!(child.wait(-1).unwrap(), Waited::PeerGone);
}

#[test]
fn a_flush_is_answered_through_the_link() {
    let (parent, mut child) = link();
    let first = child.begin_flush().unwrap();
    assert!(!child.flush_state(first).unwrap());
    parent.complete_flush(first, false);
    assert!(child.flush_state(first).unwrap());
    let second = child.begin_flush().unwrap();
    parent.complete_flush(second, true);
    assert!(child.flush_state(second).is_err());
}

#[test]
fn slots_are_used_again_only_when_free() {
    let (mut parent, mut child) = link();
    for round in 0..5000u64 {
        assert!(parent.hand_over(&job(b"x"), round, 1).unwrap());
        if round % 3 == 0 {
            assert_eq!(parent.take_back().unwrap().job, round);
            assert!(claim(&mut child).is_none());
            continue;
        }
        let (sequence, _) = claim(&mut child).unwrap();
        finish(&mut child, sequence);
        parent.collect_started(|_, _| ());
        assert!(parent.next_frame(|_| ()).unwrap().is_some());
        assert_eq!(parent.finished(sequence).unwrap().job, round);
    }
}
