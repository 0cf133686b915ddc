//! The connections of one process.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::connection::Connection;
use crate::config::RedisAddress;
use crate::error::{Error, ErrorKind, Result};

/// No descriptor.
const NONE: RawFd = -1;

/// At most so many connections as there are slots. A thread that finds none free waits for one.
#[derive(Debug)]
pub(super) struct Pool {
    state: Mutex<State>,
    returned: Condvar,
    /// The open descriptor of each slot, readable without the lock: in a forked child the lock may be held
    /// by a thread that was left behind. A descriptor stands here only while it is open.
    descriptors: Box<[AtomicI32]>,
}

#[derive(Debug)]
struct State {
    /// Slots not in use; those used last are at the end and used first.
    free: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    index: usize,
    connection: Option<Connection>,
}

/// A connection taken from the pool; goes back when dropped, closed unless `keep` was called.
#[derive(Debug)]
pub(super) struct Lease<'a> {
    pool: &'a Pool,
    slot: Option<Slot>,
    healthy: bool,
    /// Whether it was open before it was taken.
    pub(super) reused: bool,
}

impl Pool {
    pub(super) fn new(max_connections: usize) -> Self {
        let size = max_connections.max(1);
        let free = (0..size).rev().map(|index| Slot { index, connection: None }).collect();
        Self {
            state: Mutex::new(State { free }),
            returned: Condvar::new(),
            descriptors: (0..size).map(|_| AtomicI32::new(NONE)).collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing can panic while the lock is held, so what it guards is sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection, open and alive.
    pub(super) fn take(&self, address: &RedisAddress) -> Result<Lease<'_>> {
        let mut state = self.lock();
        let slot = loop {
            match state.free.pop() {
                Some(slot) => break slot,
                None => state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(state);
        let mut lease = Lease { pool: self, slot: Some(slot), healthy: false, reused: true };
        let interval = Duration::from_secs_f64(address.health_check_interval_s.clamp(0.0, 1e9));
        if !lease.connection_mut().is_some_and(|connection| connection.is_alive(interval)) {
            lease.reopen(address)?;
        }
        Ok(lease)
    }

    /// Closes the connections that are not in use.
    pub(super) fn close_idle(&self) {
        let mut state = self.lock();
        for slot in &mut state.free {
            self.close(slot);
        }
    }

    fn close(&self, slot: &mut Slot) {
        self.descriptors[slot.index].store(NONE, Ordering::Release);
        slot.connection = None;
    }

    /// Closes inherited descriptors in a forked child, where the connections are the parent's.
    #[expect(unsafe_code, reason = "closes descriptors whose owners live in another process")]
    pub(super) fn close_inherited(&self) {
        for descriptor in &self.descriptors {
            let descriptor = descriptor.swap(NONE, Ordering::AcqRel);
            if descriptor != NONE {
                // SAFETY: it was open at the fork, its owner in this process's copy of the pool is never used
                // nor dropped, and nothing else here knows the number.
                unsafe { libc::close(descriptor) };
            }
        }
    }
}

impl Lease<'_> {
    fn connection_mut(&mut self) -> Option<&mut Connection> {
        self.slot.as_mut().and_then(|slot| slot.connection.as_mut())
    }

    /// Replaces the connection by a new one.
    pub(super) fn reopen(&mut self, address: &RedisAddress) -> Result<()> {
        self.reused = false;
        let Some(slot) = &mut self.slot else { return Ok(()) };
        self.pool.close(slot);
        let connection = Connection::open(address)?;
        self.pool.descriptors[slot.index].store(connection.descriptor(), Ordering::Release);
        slot.connection = Some(connection);
        Ok(())
    }

    /// The connection.
    pub(super) fn connection(&mut self) -> Result<&mut Connection> {
        self.connection_mut().ok_or_else(|| Error::new(ErrorKind::Internal, "a lease without a connection"))
    }

    /// Gives the connection back for others to use.
    pub(super) fn keep(mut self) {
        self.healthy = true;
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let Some(mut slot) = self.slot.take() else { return };
        if !self.healthy {
            self.pool.close(&mut slot);
        }
        let mut state = self.pool.lock();
        if slot.connection.is_some() {
            state.free.push(slot);
        } else {
            // Open connections are preferred over slots that are not.
            state.free.insert(0, slot);
        }
        drop(state);
        self.pool.returned.notify_one();
    }
}
