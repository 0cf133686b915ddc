//! A byte ring between one producer and one consumer in different processes.
//!
//! A frame is a 32-bit length and that many bytes, padded to eight. Frames are contiguous: one that does
//! not fit before the end of the ring is preceded by a wrap mark. Head and tail count bytes for ever.
//! Lengths read from memory that another process can write are checked before they are used.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, ErrorKind, Result};

const WRAP: u32 = u32::MAX;
const PREFIX: usize = 4;

fn padded(length: usize) -> usize {
    (PREFIX + length + 7) & !7
}

/// The longest frame that a ring of this capacity takes; longer ones travel as memory files.
pub(super) fn largest_frame(capacity: usize) -> usize {
    capacity / 4
}

/// The writing end. Its position is kept here, so only the tail is read from shared memory.
#[derive(Debug)]
pub(super) struct Producer {
    data: NonNull<u8>,
    capacity: usize,
    head: u64,
}

#[expect(unsafe_code, reason = "points into a LinkMemory that its owner keeps alive and sends along")]
// SAFETY: one producer per ring; the pointed-to mapping is not thread bound.
unsafe impl Send for Producer {}

impl Producer {
    /// Continues at `head`. The memory must outlive the value.
    pub(super) fn new(data: NonNull<u8>, capacity: usize, head: u64) -> Self {
        Self { data, capacity, head }
    }

    /// Whether a frame of this length would fit now.
    pub(super) fn has_room(&self, shared_tail: &AtomicU64, length: usize) -> bool {
        let needed = padded(length);
        let to_end = self.capacity - (self.head as usize & (self.capacity - 1));
        let skipped = if needed > to_end { to_end } else { 0 };
        let used = self.head.wrapping_sub(shared_tail.load(Ordering::Acquire)) as usize;
        used <= self.capacity && used + skipped + needed <= self.capacity
    }

    /// Appends a frame made of `parts` and publishes it; false when there is no room now.
    #[expect(unsafe_code, reason = "copies into the ring")]
    pub(super) fn push(&mut self, shared_head: &AtomicU64, shared_tail: &AtomicU64, parts: &[&[u8]]) -> bool {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        debug_assert!(length <= largest_frame(self.capacity));
        let needed = padded(length);
        let offset = self.head as usize & (self.capacity - 1);
        let to_end = self.capacity - offset;
        let skipped = if needed > to_end { to_end } else { 0 };
        if !self.has_room(shared_tail, length) {
            return false;
        }
        // SAFETY: the range [head, head + skipped + needed) is free by the check above, contiguous after
        // the wrap, and inside the ring; nobody else writes it until the tail passes it.
        unsafe {
            let mut target = self.data.as_ptr().add(offset);
            if skipped > 0 {
                target.cast::<u32>().write(WRAP);
                target = self.data.as_ptr();
            }
            target.cast::<u32>().write(length as u32);
            target = target.add(PREFIX);
            for part in parts {
                std::ptr::copy_nonoverlapping(part.as_ptr(), target, part.len());
                target = target.add(part.len());
            }
        }
        self.head += (skipped + needed) as u64;
        shared_head.store(self.head, Ordering::Release);
        true
    }
}

/// The reading end.
#[derive(Debug)]
pub(super) struct Consumer {
    data: NonNull<u8>,
    capacity: usize,
    tail: u64,
}

#[expect(unsafe_code, reason = "points into a LinkMemory that its owner keeps alive and sends along")]
// SAFETY: one consumer per ring; the pointed-to mapping is not thread bound.
unsafe impl Send for Consumer {}

impl Consumer {
    /// Continues at `tail`. The memory must outlive the value.
    pub(super) fn new(data: NonNull<u8>, capacity: usize, tail: u64) -> Self {
        Self { data, capacity, tail }
    }

    /// Whether a frame waits.
    pub(super) fn has_frame(&self, shared_head: &AtomicU64) -> bool {
        shared_head.load(Ordering::Acquire) != self.tail
    }

    /// The next frame, which stays in the ring until `release`.
    #[expect(unsafe_code, reason = "reads from the ring")]
    pub(super) fn peek(&mut self, shared_head: &AtomicU64) -> Result<Option<&[u8]>> {
        let available = shared_head.load(Ordering::Acquire).wrapping_sub(self.tail) as usize;
        if available == 0 {
            return Ok(None);
        }
        let damaged = || Error::new(ErrorKind::Internal, "a pool link is damaged: frame length out of range");
        if available > self.capacity {
            return Err(damaged());
        }
        let mut offset = self.tail as usize & (self.capacity - 1);
        // SAFETY: offset is eight-byte aligned and below the capacity.
        let mut length = unsafe { self.data.as_ptr().add(offset).cast::<u32>().read() };
        let mut skipped = 0;
        if length == WRAP {
            skipped = self.capacity - offset;
            offset = 0;
            if skipped >= available {
                return Err(damaged());
            }
            // SAFETY: the start of the ring.
            length = unsafe { self.data.as_ptr().cast::<u32>().read() };
        }
        let needed = padded(length as usize);
        if length == WRAP || skipped + needed > available || offset + needed > self.capacity {
            return Err(damaged());
        }
        self.tail += skipped as u64;
        // SAFETY: bounds checked above; the producer does not touch these bytes before `release`.
        Ok(Some(unsafe { std::slice::from_raw_parts(self.data.as_ptr().add(offset + PREFIX), length as usize) }))
    }

    /// Gives the bytes of the frame last returned by `peek` back to the producer.
    pub(super) fn release(&mut self, length: usize, shared_tail: &AtomicU64) {
        self.tail += padded(length) as u64;
        shared_tail.store(self.tail, Ordering::Release);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Pair {
        _storage: Vec<u64>,
        head: AtomicU64,
        tail: AtomicU64,
        producer: Producer,
        consumer: Consumer,
    }

    fn pair(capacity: usize) -> Pair {
        let mut storage = vec![0u64; capacity / 8];
        let data = NonNull::new(storage.as_mut_ptr().cast::<u8>()).unwrap();
        Pair {
            _storage: storage,
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
            producer: Producer::new(data, capacity, 0),
            consumer: Consumer::new(data, capacity, 0),
        }
    }

    #[test]
    fn a_full_ring_refuses_and_takes_again_after_release() {
        let mut ring = pair(64);
        assert!(ring.producer.push(&ring.head, &ring.tail, &[b"0123456789"]));
        assert!(ring.producer.push(&ring.head, &ring.tail, &[b"0123456789"]));
        assert!(ring.producer.push(&ring.head, &ring.tail, &[b"0123456789"]));
        assert!(ring.producer.push(&ring.head, &ring.tail, &[b"0123456789"]));
        assert!(!ring.producer.push(&ring.head, &ring.tail, &[b"x"]));
        let length = ring.consumer.peek(&ring.head).unwrap().unwrap().len();
        ring.consumer.release(length, &ring.tail);
        assert!(ring.producer.push(&ring.head, &ring.tail, &[b"x"]));
    }

    #[test]
    fn a_damaged_length_is_an_error() {
        let mut ring = pair(64);
        assert!(ring.producer.push(&ring.head, &ring.tail, &[b"abc"]));
        ring._storage[0] = 0x00ff_ffff;
        assert!(ring.consumer.peek(&ring.head).is_err());
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 0..200)) {
            let mut ring = pair(256);
            let mut expected = std::collections::VecDeque::new();
            for frame in frames {
                while !ring.producer.push(&ring.head, &ring.tail, &[&frame[..frame.len() / 2], &frame[frame.len() / 2..]]) {
                    let got = ring.consumer.peek(&ring.head).unwrap().unwrap().to_vec();
                    ring.consumer.release(got.len(), &ring.tail);
                    prop_assert_eq!(Some(got), expected.pop_front());
                }
                expected.push_back(frame);
            }
            while let Some(got) = ring.consumer.peek(&ring.head).unwrap().map(<[u8]>::to_vec) {
                ring.consumer.release(got.len(), &ring.tail);
                prop_assert_eq!(Some(got), expected.pop_front());
            }
            prop_assert!(expected.is_empty());
        }

        #[test]
        fn whatever_the_other_side_writes_is_a_frame_inside_the_ring_or_an_error(
            words in proptest::collection::vec(prop_oneof![Just(u64::MAX), Just(u64::from(WRAP)), 0..300u64, any::<u64>()], 8),
            head in prop_oneof![0..200u64, any::<u64>()],
        ) {
            let mut ring = pair(64);
            ring._storage.copy_from_slice(&words);
            ring.head.store(head, Ordering::Release);
            for _ in 0..10 {
                let Ok(Some(length)) = ring.consumer.peek(&ring.head).map(|frame| frame.map(<[u8]>::len)) else { break };
                prop_assert!(length <= 64 - PREFIX);
                ring.consumer.release(length, &ring.tail);
            }
        }
    }
}
