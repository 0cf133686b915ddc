//! Who is alive: every node locks one byte of the side file, and the kernel frees it when its process is gone.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::side_file;
use crate::error::Result;

/// Bytes before this are the bell's words.
const FIRST_BYTE: i64 = 1 << 20;

/// The lock of one node; given back when dropped or when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Liveness {
    file: File,
}

impl Liveness {
    /// Opens the side file; `None` where there is none: then only silence tells that somebody is gone.
    pub(crate) fn open(database: &Path) -> Result<Option<Self>> {
        Ok(side_file::open(database)?.map(|file| Self { file }))
    }

    /// Takes the byte of a node's number.
    pub(crate) fn hold(&self, node: i64) -> bool {
        self.lock(libc::F_OFD_SETLK, libc::F_WRLCK, node).is_some()
    }

    /// Whether a node's process is certainly gone. What cannot be found out counts as alive.
    pub(crate) fn is_gone(&self, node: i64) -> bool {
        self.lock(libc::F_OFD_GETLK, libc::F_WRLCK, node).is_some_and(|kind| kind == libc::F_UNLCK)
    }

    #[expect(unsafe_code, reason = "locks of open file descriptions have no wrapper")]
    fn lock(&self, command: i32, kind: i32, node: i64) -> Option<i32> {
        // SAFETY: all bytes zero is a valid flock structure.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = kind as i16;
        lock.l_whence = libc::SEEK_SET as i16;
        lock.l_start = FIRST_BYTE + node;
        lock.l_len = 1;
        // SAFETY: the descriptor is open and the structure lives during the call.
        let result = unsafe { libc::fcntl(self.file.as_raw_fd(), command, &raw mut lock) };
        (result == 0).then_some(i32::from(lock.l_type))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_lock_is_seen_by_others_and_ends_with_its_holder() {
        let directory = std::env::temp_dir().join(format!("pyworker-liveness-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let database = directory.join("file.db");
        let one = Liveness::open(&database).unwrap().unwrap();
        let other = Liveness::open(&database).unwrap().unwrap();
        assert!(other.is_gone(7));
        assert!(one.hold(7));
        assert!(!other.is_gone(7));
        assert!(!other.hold(7));
        assert!(other.is_gone(8));
        drop(one);
        assert!(other.is_gone(7));
        std::fs::remove_dir_all(directory).unwrap();
    }
}
