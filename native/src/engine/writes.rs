//! Result writes on their way, by token.

use crate::engine::jobs::JobHandle;

/// A write that the store has not confirmed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write {
    /// Pool index of the child that made it.
    pub(super) child: u32,
    /// That child's process id, because the place may have a new one meanwhile.
    pub(super) pid: i32,
    /// The job it belongs to.
    pub(super) job: Option<JobHandle>,
}

/// The table of writes.
#[derive(Debug, Default)]
pub(super) struct WriteTable {
    entries: Vec<Option<Write>>,
    free: Vec<u32>,
}

impl WriteTable {
    /// Adds a write and returns its token.
    pub(super) fn insert(&mut self, write: Write) -> u64 {
        match self.free.pop() {
            Some(index) => {
                self.entries[index as usize] = Some(write);
                u64::from(index)
            }
            None => {
                self.entries.push(Some(write));
                (self.entries.len() - 1) as u64
            }
        }
    }

    /// Takes a write out.
    pub(super) fn remove(&mut self, token: u64) -> Option<Write> {
        let write = self.entries.get_mut(token as usize)?.take()?;
        self.free.push(token as u32);
        Some(write)
    }
}
