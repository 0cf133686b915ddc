//! The pool link: how the engine and its child processes exchange jobs and outcomes.
//!
//! Each child shares one memory file with the engine: a header of atomic words, one state word per
//! job slot, and two byte rings (jobs down, outcomes up). A `SOCK_SEQPACKET` socket beside it carries
//! doorbells to a sleeping peer, payloads too large for a ring (as memory files), and tells either side
//! of the other's death. Nobody makes a system call while both sides are busy.
//!
//! ```text
//!  engine thread                          child (main thread)
//!  hand over: frame -> job ring           claim:  slot Ready -> Running   (compare-and-swap)
//!             slot  -> Ready              finish: slot Running -> Finishing, frame -> outcome ring
//!  take back: slot Ready -> Taken
//!  doom:      slot Running -> Doomed      a child that finds Doomed at the end waits until it finds Signalled,
//!  signal, then    Doomed -> Signalled    and then for the signal's handler
//! ```
//!
//! After a child's death the slots say exactly which job was running and which were not started.

mod channel;
pub mod child;
pub mod frames;
mod memory;
pub mod parent;
mod ring;
pub mod slots;
pub mod supervisor;

pub use memory::{LinkMemory, SLOT_COUNT};
