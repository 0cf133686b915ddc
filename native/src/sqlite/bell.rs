//! Waking other processes: words in a small mapped file beside the database.
//!
//! Whoever commits something that others may wait for adds one to the word and wakes its sleepers, by a bit mask, so
//! that only those wake that the news is for. A sleeper reads the word first, then looks into the database, and
//! sleeps only if the word is still the same: nothing is missed. Without the file (a folder in which we may not
//! create one) the words are this process's own and everybody else polls.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::side_file;
use crate::error::Result;

/// What one can wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Messages, broadcasts, and requests of a node's own engine.
    Queues = 0,
    /// Results.
    Results = 1,
}

/// Each word has a cache line: the word, then how many sleep on it.
const LINE_WORDS: usize = 16;
const LENGTH: usize = 4096;
const WORDS: usize = 2;
/// A little longer than the longest wait between two attempts.
const HUNGRY_NS: u64 = 1_500_000;
/// Bits by name; the rest are for nodes.
const NAME_BITS: u32 = 24;
/// Everybody.
pub(crate) const ALL: u32 = u32::MAX;

/// The words. See the module's text.
#[derive(Debug)]
pub(crate) struct Bell {
    base: NonNull<u32>,
    pub(crate) is_shared: bool,
}

#[expect(unsafe_code, reason = "the mapping is reached through atomics only")]
// SAFETY: the mapping lives as long as the value and is not tied to a thread.
unsafe impl Send for Bell {}

#[expect(unsafe_code, reason = "the mapping is reached through atomics only")]
// SAFETY: as above; every access is atomic.
unsafe impl Sync for Bell {}

impl Bell {
    /// Maps the side file of a database, or private memory if that cannot be had.
    ///
    /// # Errors
    ///
    /// Those of the side file: words of our own would be of no use.
    pub(crate) fn open(database: &Path) -> Result<Self> {
        let Some(file) = side_file::open(database)? else { return Self::private() };
        match map_file(&file) {
            Ok(base) => Ok(Self { base, is_shared: true }),
            Err(error) => side_file::unusable(database, error).and_then(|()| Self::private()),
        }
    }

    /// Words of this process alone.
    pub(crate) fn private() -> Result<Self> {
        Ok(Self { base: map(-1, libc::MAP_SHARED | libc::MAP_ANONYMOUS)?, is_shared: false })
    }

    #[expect(unsafe_code, reason = "words of the mapping as atomics")]
    fn word(&self, word: Word, offset: usize) -> &AtomicU32 {
        let index = word as usize * LINE_WORDS + offset;
        debug_assert!(index < WORDS * LINE_WORDS);
        // SAFETY: the mapping has LENGTH bytes, is aligned to a page, and all sides use atomics.
        unsafe { AtomicU32::from_ptr(self.base.as_ptr().add(index)) }
    }

    /// When somebody last failed to get the write lock; those who have just had it let them go first.
    #[expect(unsafe_code, reason = "a word of the mapping as an atomic")]
    fn hungry(&self) -> &AtomicU64 {
        // SAFETY: the mapping has LENGTH bytes and is aligned to a page; nobody else uses this line.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(WORDS * LINE_WORDS).cast()) }
    }

    /// By how many microseconds the file's clock is ahead of the machine's; see `side_clock.rs`.
    #[expect(unsafe_code, reason = "a word of the mapping as an atomic")]
    fn ahead_us(&self) -> &AtomicU64 {
        // SAFETY: the mapping has LENGTH bytes and is aligned to a page; nobody else uses this line.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add((WORDS + 1) * LINE_WORDS).cast()) }
    }

    /// How far the file's clock was moved ahead.
    pub(crate) fn clock_ahead(&self) -> Duration {
        Duration::from_micros(self.ahead_us().load(Ordering::SeqCst))
    }

    /// Moves the file's clock ahead.
    pub(crate) fn move_clock(&self, by: Duration) {
        self.ahead_us().fetch_add(u64::try_from(by.as_micros()).unwrap_or(0), Ordering::SeqCst);
    }

    /// Says that we wait for the write lock.
    pub(crate) fn be_hungry(&self) {
        self.hungry().store(crate::clock::monotonic_ns(), Ordering::Relaxed);
    }

    /// Whether somebody waited for the write lock a moment ago.
    pub(crate) fn is_anybody_hungry(&self) -> bool {
        crate::clock::monotonic_ns().saturating_sub(self.hungry().load(Ordering::Relaxed)) < HUNGRY_NS
    }

    /// What a word says now; to be read before looking for what one would wait for.
    pub(crate) fn read(&self, word: Word) -> u32 {
        self.word(word, 0).load(Ordering::SeqCst)
    }

    /// Says that something came, to those who wait with one of these bits.
    pub(crate) fn ring(&self, word: Word, bits: u32) {
        self.word(word, 0).fetch_add(1, Ordering::SeqCst);
        if self.word(word, 1).load(Ordering::SeqCst) != 0 {
            self.futex(word, libc::FUTEX_WAKE_BITSET, i32::MAX as u32, None, bits);
        }
    }

    /// Sleeps until rung with one of these bits, or not at all if the word has changed since it was read.
    pub(crate) fn wait(&self, word: Word, seen: u32, bits: u32, most: Duration) {
        self.word(word, 1).fetch_add(1, Ordering::SeqCst);
        self.futex(word, libc::FUTEX_WAIT_BITSET, seen, Some(most), bits);
        self.word(word, 1).fetch_sub(1, Ordering::SeqCst);
    }

    #[expect(unsafe_code, reason = "futex has no wrapper")]
    fn futex(&self, word: Word, operation: i32, value: u32, most: Option<Duration>, bits: u32) {
        let deadline = most.map(|most| {
            let at_ns = crate::clock::monotonic_ns().saturating_add(most.as_nanos() as u64);
            libc::timespec { tv_sec: (at_ns / 1_000_000_000) as i64, tv_nsec: (at_ns % 1_000_000_000) as i64 }
        });
        let deadline_at = deadline.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the word is valid for the call; the deadline is null or points to a living timespec.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.word(word, 0).as_ptr(),
                operation,
                value,
                deadline_at,
                std::ptr::null::<u32>(),
                bits.max(1),
            );
        }
    }
}

impl Drop for Bell {
    #[expect(unsafe_code, reason = "gives the mapping back")]
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length and nobody can use it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), LENGTH) };
    }
}

/// The bit of a name (a queue, a result's key).
pub(crate) fn bit_of(name: &[u8]) -> u32 {
    let hash = name.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    1 << ((hash ^ (hash >> 15)) % NAME_BITS)
}

/// The bit by which a node's engine wakes its own thread.
pub(crate) fn bit_of_node(number: u64) -> u32 {
    1 << (NAME_BITS + (number % u64::from(32 - NAME_BITS)) as u32)
}

fn map_file(file: &File) -> io::Result<NonNull<u32>> {
    let metadata = file.metadata()?;
    if metadata.len() < LENGTH as u64 || metadata.blocks() * 512 < LENGTH as u64 {
        allocate(file)?;
    }
    map(file.as_raw_fd(), libc::MAP_SHARED)
}

/// Gives the file its length and its place on the disk: on a full one, writing to a mapping without a place is fatal.
#[expect(unsafe_code, reason = "posix_fallocate has no wrapper")]
fn allocate(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open during the call.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, LENGTH as i64) } {
        0 => Ok(()),
        // A file system that cannot do that.
        libc::EOPNOTSUPP | libc::EINVAL | libc::ENOSYS => file.set_len(LENGTH as u64),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

#[expect(unsafe_code, reason = "mmap has no wrapper")]
fn map(descriptor: i32, flags: i32) -> io::Result<NonNull<u32>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice; a descriptor is open during the call.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), LENGTH, protection, flags, descriptor, 0) };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(base.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_sleeper_wakes_for_its_own_bit() {
        let directory = std::env::temp_dir().join(format!("pyworker-bell-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let bell = Arc::new(Bell::open(&directory.join("file.db")).unwrap());
        assert!(bell.is_shared);
        let seen = bell.read(Word::Results);
        let sleeper = std::thread::spawn({
            let bell = Arc::clone(&bell);
            move || bell.wait(Word::Results, seen, 2, Duration::from_secs(60))
        });
        while bell.word(Word::Results, 1).load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        let other = Bell::open(&directory.join("file.db")).unwrap();
        other.ring(Word::Results, 2);
        sleeper.join().unwrap();
        // The word has changed: nobody sleeps on what was read before.
        bell.wait(Word::Results, seen, 2, Duration::from_secs(60));
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn without_a_file_the_words_are_private() {
        let bell = Bell::open(Path::new("/nonexistent-folder/file.db")).unwrap();
        assert!(!bell.is_shared);
        let seen = bell.read(Word::Queues);
        bell.ring(Word::Queues, ALL);
        assert_ne!(bell.read(Word::Queues), seen);
    }

    #[test]
    fn nodes_and_names_have_bits_of_their_own() {
        for number in 0..40 {
            assert_eq!(bit_of(format!("queue{number}").as_bytes()) & bit_of_node(number), 0);
        }
    }
}
