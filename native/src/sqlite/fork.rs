//! Forks while SQLite is in use.
//!
//! SQLite forbids an open connection to cross a fork, and more than that: its table of locks, by file, is inherited
//! too, so that even a new connection of the child would believe that it holds what the parent holds. Two measures
//! make every fork harmless, without closing anything in the parent:
//!
//! * a fork waits until no thread is inside SQLite (`enter`), so that no lock of its memory is inherited locked;
//! * files are known to SQLite under a device number that differs in every process (a wrapper around `fstat` and
//!   `stat`), so that the child's first connection finds no entry of the parent's. What it inherited is left alone.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rusqlite::ffi;

static FORKING: AtomicBool = AtomicBool::new(false);
static INSIDE: AtomicUsize = AtomicUsize::new(0);
static PREPARE: Once = Once::new();

const PAUSE: Duration = Duration::from_micros(100);

thread_local! {
    /// How deep this thread is inside SQLite.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// As long as it lives no fork begins. It must not be kept across a wait.
#[derive(Debug)]
pub(crate) struct Inside;

/// Says that this thread is about to use SQLite; waits for a fork that is under way.
pub(crate) fn enter() -> Inside {
    prepare();
    let depth = DEPTH.get();
    DEPTH.set(depth + 1);
    if depth == 0 {
        loop {
            INSIDE.fetch_add(1, Ordering::SeqCst);
            if !FORKING.load(Ordering::SeqCst) {
                break;
            }
            INSIDE.fetch_sub(1, Ordering::SeqCst);
            std::thread::sleep(PAUSE);
        }
    }
    Inside
}

impl Drop for Inside {
    fn drop(&mut self) {
        let depth = DEPTH.get() - 1;
        DEPTH.set(depth);
        if depth == 0 {
            INSIDE.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

extern "C" fn before_fork() {
    FORKING.store(true, Ordering::SeqCst);
    while INSIDE.load(Ordering::SeqCst) != 0 {
        std::thread::sleep(PAUSE);
    }
}

extern "C" fn after_fork() {
    FORKING.store(false, Ordering::SeqCst);
}

#[expect(unsafe_code, reason = "installs fork handlers and SQLite's replaceable system calls")]
fn prepare() {
    PREPARE.call_once(|| {
        // SAFETY: the handlers touch atomics only.
        unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(after_fork)) };
        // SAFETY: initialising is thread-safe and may be repeated; the returned object lives for ever.
        let vfs = unsafe {
            ffi::sqlite3_initialize();
            ffi::sqlite3_vfs_find(c"unix".as_ptr())
        };
        // SAFETY: a VFS that was found is a valid, immortal structure.
        let Some(vfs) = (unsafe { vfs.as_mut() }) else { return };
        let Some(set) = vfs.xSetSystemCall else { return };
        replace(vfs, set, c"fstat", fstat_of_this_process as *const ());
        replace(vfs, set, c"stat", stat_of_this_process as *const ());
    });
}

type SetSystemCall = unsafe extern "C" fn(*mut ffi::sqlite3_vfs, *const c_char, ffi::sqlite3_syscall_ptr) -> c_int;

#[expect(unsafe_code, reason = "SQLite takes its system calls as untyped function pointers")]
fn replace(vfs: &mut ffi::sqlite3_vfs, set: SetSystemCall, name: &CStr, function: *const ()) {
    // SAFETY: SQLite casts the pointer back to the type of the named call, which is the function's own.
    unsafe {
        let function = std::mem::transmute::<*const (), unsafe extern "C" fn()>(function);
        set(vfs, name.as_ptr(), Some(function));
    }
}

/// SQLite looks files up by device and inode, and uses the device for nothing else.
fn mark(status: &mut libc::stat) {
    status.st_dev ^= libc::dev_t::from(std::process::id()) << 32;
}

#[expect(unsafe_code, reason = "called by SQLite in the place of fstat")]
unsafe extern "C" fn fstat_of_this_process(descriptor: c_int, status: *mut libc::stat) -> c_int {
    // SAFETY: the caller's arguments are those of fstat.
    let result = unsafe { libc::fstat(descriptor, status) };
    if result == 0 {
        // SAFETY: the structure is filled after success.
        unsafe { status.as_mut() }.map(mark);
    }
    result
}

#[expect(unsafe_code, reason = "called by SQLite in the place of stat")]
unsafe extern "C" fn stat_of_this_process(path: *const c_char, status: *mut libc::stat) -> c_int {
    // SAFETY: the caller's arguments are those of stat.
    let result = unsafe { libc::stat(path, status) };
    if result == 0 {
        // SAFETY: the structure is filled after success.
        unsafe { status.as_mut() }.map(mark);
    }
    result
}
