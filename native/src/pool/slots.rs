//! The state word of a job in a link.
//!
//! ```text
//!            claim            finish
//!   Ready ----------> Running ---------> Finishing
//!     |                 |  ^  \
//!     | take back       |  |   `--> SoftLimit (marked; the signal's handler sets Running again)
//!     v            doom v  | survived
//!   Taken     Doomed ---> Signalled
//!                 signal
//! ```
//! Engine transitions: take back, doom, signal, soft limit. Child transitions: the others. Every transition is a
//! compare-and-swap on sequence and state together, so no signal can meet another job than the one meant.

use std::sync::atomic::{AtomicU64, Ordering};

const STATE_BITS: u32 = 3;

/// State of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum SlotState {
    /// Never used, or seen to its end by the engine.
    Empty = 0,
    /// Handed over; whoever swaps it first has it.
    Ready = 1,
    /// Claimed: user code runs.
    Running = 2,
    /// Claimed; the engine is about to signal the soft time limit.
    SoftLimit = 3,
    /// Claimed; the engine is going to end it by a signal.
    Doomed = 4,
    /// User code is over; the outcome frame follows.
    Finishing = 5,
    /// Taken back by the engine; the child skips it.
    Taken = 6,
    /// Claimed; the engine has sent the signal that is to end it.
    Signalled = 7,
}

impl SlotState {
    fn from_bits(bits: u64) -> Self {
        match bits {
            1 => SlotState::Ready,
            2 => SlotState::Running,
            3 => SlotState::SoftLimit,
            4 => SlotState::Doomed,
            5 => SlotState::Finishing,
            6 => SlotState::Taken,
            7 => SlotState::Signalled,
            _ => SlotState::Empty,
        }
    }
}

fn pack(sequence: u64, state: SlotState) -> u64 {
    (sequence << STATE_BITS) | state as u64
}

/// The state of a job, `Empty` if the slot holds another one.
pub(super) fn state_of(word: &AtomicU64, sequence: u64) -> SlotState {
    let value = word.load(Ordering::Acquire);
    if value >> STATE_BITS == sequence {
        SlotState::from_bits(value & ((1 << STATE_BITS) - 1))
    } else {
        SlotState::Empty
    }
}

/// Whether a slot can be given to another job.
pub(super) fn is_free(word: &AtomicU64) -> bool {
    word.load(Ordering::Acquire) & ((1 << STATE_BITS) - 1) == SlotState::Empty as u64
}

/// Sets a slot without regard to what it was; only for a slot that no one else can touch.
pub(super) fn set(word: &AtomicU64, sequence: u64, state: SlotState) {
    word.store(pack(sequence, state), Ordering::Release);
}

/// Moves a job from one state to another; false if it is not in the first.
pub(super) fn swap(word: &AtomicU64, sequence: u64, from: SlotState, to: SlotState) -> bool {
    word.compare_exchange(pack(sequence, from), pack(sequence, to), Ordering::SeqCst, Ordering::SeqCst).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_side_gets_a_ready_job() {
        let word = AtomicU64::new(0);
        set(&word, 9, SlotState::Ready);
        assert!(swap(&word, 9, SlotState::Ready, SlotState::Running));
        assert!(!swap(&word, 9, SlotState::Ready, SlotState::Taken));
        assert_eq!(state_of(&word, 9), SlotState::Running);
    }

    #[test]
    fn a_later_job_in_the_same_slot_is_another_job() {
        let word = AtomicU64::new(0);
        set(&word, 9, SlotState::Running);
        set(&word, 9 + 1024, SlotState::Running);
        assert!(!swap(&word, 9, SlotState::Running, SlotState::Doomed));
        assert_eq!(state_of(&word, 9), SlotState::Empty);
    }
}
