//! The life of one delivery.
//!
//! ```text
//!             parse ok, eta in the future
//!  Received ------------------------------> Scheduled --(due, recalled)--> [delivered anew]
//!     |  \
//!     |   \ needs Python first           verdict dispatch
//!     |    `---------------> Shown --------------------.
//!     v                        | verdict ack/reject/..  |
//!  Reserved <------------------|------------------------'
//!     |  ^                     |
//!     |  | taken back          v
//!     v  |                  Settled
//!  HandedOver --(child claims it)--> Running --(finish, or death of the child)--> Done --> Settled
//! ```
//!
//! A message is lost by nobody's death before `Running`: until then the broker still holds it for us.
//! `Running` acknowledges at once unless the task acknowledges late.

use crate::error::{Error, ErrorKind, Result};

/// Where a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeliveryState {
    /// Decoded, not yet placed.
    Received,
    /// Shown to the parent's Python side; waits for its verdict.
    Shown,
    /// In the ready queue.
    Reserved,
    /// In a child's link, not claimed; can be taken back.
    HandedOver,
    /// Claimed by a child.
    Running,
    /// The child is finished with it; results may still be on their way.
    Done,
    /// Its end was handed to the broker.
    Settled,
}

impl DeliveryState {
    /// Moves on, or says which transition the diagram does not have.
    pub fn advance(&mut self, to: DeliveryState) -> Result<()> {
        use DeliveryState::{Done, HandedOver, Received, Reserved, Running, Settled, Shown};
        let allowed = match *self {
            Received => matches!(to, Shown | Reserved | Settled),
            Shown => matches!(to, Reserved | Settled),
            Reserved => matches!(to, HandedOver | Shown | Settled),
            HandedOver => matches!(to, Running | Reserved),
            Running => matches!(to, Done | Shown),
            Done => matches!(to, Shown | Settled),
            Settled => false,
        };
        if allowed {
            *self = to;
            return Ok(());
        }
        Err(Error::new(ErrorKind::Internal, format!("a delivery cannot go from {self:?} to {to:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::DeliveryState::{Done, HandedOver, Received, Reserved, Running, Settled};

    #[test]
    fn the_plain_path_is_allowed() {
        let mut state = Received;
        for next in [Reserved, HandedOver, Running, Done, Settled] {
            assert!(state.advance(next).is_ok(), "{state:?} -> {next:?}");
        }
    }

    #[test]
    fn a_running_job_cannot_be_taken_back() {
        let mut state = Running;
        assert!(state.advance(Reserved).is_err());
        assert_eq!(state, Running);
    }

    #[test]
    fn nothing_follows_settled() {
        let mut state = Settled;
        assert!(state.advance(Reserved).is_err());
    }
}
