//! The memory that a child shares with the engine.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use crate::error::{Error, ErrorKind, Result};

/// Jobs that can be in one link at a time; a power of two.
pub const SLOT_COUNT: usize = 1024;

const MAGIC: u32 = 0x7079_6c31;

/// The words at the start of the mapping. Words written by different sides are on different cache lines.
#[repr(C, align(64))]
#[derive(Debug)]
pub(super) struct Header {
    /// Guards against mapping something else.
    magic: AtomicU32,
    /// Bytes of each ring.
    capacity: AtomicU32,
    _pad0: [u64; 7],
    /// Engine: no further job will come; the child ends when it has nothing claimed.
    pub(super) shutdown: AtomicU32,
    /// Engine: about to sleep, the child must ring.
    pub(super) engine_waiting: AtomicU32,
    /// Engine: monotonic time until which unstarted jobs may be claimed (lease rule).
    pub(super) start_deadline_ns: AtomicU64,
    /// Engine: last flush request that is completely stored.
    pub(super) flush_done: AtomicU64,
    /// Engine: last flush request of which a write was refused.
    pub(super) flush_failed: AtomicU64,
    _pad1: [u64; 4],
    /// Child: about to sleep, the engine must ring.
    pub(super) child_waiting: AtomicU32,
    /// Child: see `ChildState`.
    pub(super) child_state: AtomicU32,
    _pad2: [u64; 7],
    /// Engine: bytes ever written to the job ring.
    pub(super) jobs_head: AtomicU64,
    _pad3: [u64; 7],
    /// Child: bytes ever read from the job ring.
    pub(super) jobs_tail: AtomicU64,
    _pad4: [u64; 7],
    /// Child: bytes ever written to the outcome ring.
    pub(super) outcomes_head: AtomicU64,
    _pad5: [u64; 7],
    /// Engine: bytes ever read from the outcome ring.
    pub(super) outcomes_tail: AtomicU64,
    _pad6: [u64; 7],
}

/// One job slot.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Slot {
    /// Sequence and state, see `slots`.
    pub(super) word: AtomicU64,
    /// Monotonic time at which the child claimed the job.
    pub(super) started_ns: AtomicU64,
}

/// The mapping. Both sides hold one; the file behind it goes away with the last descriptor.
#[derive(Debug)]
pub struct LinkMemory {
    base: NonNull<u8>,
    length: usize,
    capacity: usize,
    file: OwnedFd,
}

#[expect(unsafe_code, reason = "the mapping is shared memory; all access goes through atomics or the rings")]
// SAFETY: the mapping lives as long as the value and is not tied to a thread.
unsafe impl Send for LinkMemory {}

#[expect(unsafe_code, reason = "the mapping is shared memory; all access goes through atomics or the rings")]
// SAFETY: shared references reach the atomics only; the rings have one owner each.
unsafe impl Sync for LinkMemory {}

const SLOTS_OFFSET: usize = size_of::<Header>();
const RINGS_OFFSET: usize = SLOTS_OFFSET + SLOT_COUNT * size_of::<Slot>();

impl LinkMemory {
    /// Makes a new memory file with two rings of `capacity` bytes, a power of two.
    pub fn create(capacity: usize) -> Result<Self> {
        if !capacity.is_power_of_two() || capacity < 4096 {
            return Err(Error::new(ErrorKind::Config, "link capacity: must be a power of two of at least 4096"));
        }
        let file = memory_file(c"pyworker-link")?;
        let length = RINGS_OFFSET + 2 * capacity;
        File::from(file.try_clone().map_err(Error::from)?).set_len(length as u64)?;
        let memory = Self::map(file, length, capacity)?;
        let header = memory.header();
        header.magic.store(MAGIC, std::sync::atomic::Ordering::Relaxed);
        header.capacity.store(capacity as u32, std::sync::atomic::Ordering::Release);
        Ok(memory)
    }

    /// Maps a memory file made by the other side.
    pub fn open(file: OwnedFd) -> Result<Self> {
        let length = File::from(file.try_clone().map_err(Error::from)?).metadata()?.len() as usize;
        let wrong = || Error::new(ErrorKind::Internal, "the link's descriptor is not a link memory file");
        let capacity = length.checked_sub(RINGS_OFFSET).ok_or_else(wrong)? / 2;
        let memory = Self::map(file, length, capacity)?;
        let header = memory.header();
        let stored = header.capacity.load(std::sync::atomic::Ordering::Acquire) as usize;
        if header.magic.load(std::sync::atomic::Ordering::Relaxed) != MAGIC || stored != capacity {
            return Err(wrong());
        }
        Ok(memory)
    }

    #[expect(unsafe_code, reason = "mmap")]
    fn map(file: OwnedFd, length: usize, capacity: usize) -> Result<Self> {
        // SAFETY: a fresh shared mapping of a file we own; the kernel picks the address.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(address.cast::<u8>()) {
            Some(base) if address != libc::MAP_FAILED => Ok(Self { base, length, capacity, file }),
            _ => Err(Error::from(std::io::Error::last_os_error()).context("mapping a pool link")),
        }
    }

    /// The descriptor, to be passed to the child.
    #[must_use]
    pub fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Bytes of each ring.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    #[expect(unsafe_code, reason = "typed view of the mapping")]
    pub(super) fn header(&self) -> &Header {
        // SAFETY: the mapping is page aligned and longer than a Header; every field is atomic or padding.
        unsafe { self.base.cast::<Header>().as_ref() }
    }

    #[expect(unsafe_code, reason = "typed view of the mapping")]
    pub(super) fn slot(&self, sequence: u64) -> &Slot {
        let index = sequence as usize & (SLOT_COUNT - 1);
        // SAFETY: the slots follow the header, the index is masked, every field is atomic.
        unsafe { self.base.add(SLOTS_OFFSET).cast::<Slot>().add(index).as_ref() }
    }

    #[expect(unsafe_code, reason = "address of the first ring")]
    pub(super) fn jobs_data(&self) -> NonNull<u8> {
        // SAFETY: inside the mapping by construction of `length`.
        unsafe { self.base.add(RINGS_OFFSET) }
    }

    #[expect(unsafe_code, reason = "address of the second ring")]
    pub(super) fn outcomes_data(&self) -> NonNull<u8> {
        // SAFETY: inside the mapping by construction of `length`.
        unsafe { self.base.add(RINGS_OFFSET + self.capacity) }
    }
}

impl Drop for LinkMemory {
    #[expect(unsafe_code, reason = "munmap")]
    fn drop(&mut self) {
        // SAFETY: exactly what `map` mapped; no reference outlives the value.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.length) };
    }
}

/// A new anonymous file in memory, closed on exec.
#[expect(unsafe_code, reason = "memfd_create has no wrapper in std")]
pub(super) fn memory_file(name: &std::ffi::CStr) -> Result<OwnedFd> {
    // SAFETY: a valid C string and flags.
    let descriptor = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(Error::from(std::io::Error::last_os_error()).context("making a memory file"));
    }
    // SAFETY: a descriptor that was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
