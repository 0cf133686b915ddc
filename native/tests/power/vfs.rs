//! SQLite's file layer, wrapped: what it does to the recorded folder is done and told to the model as well.
//!
//! `xOpen` and `xDelete` of the layer are replaced; an opened file gets a copy of its table of methods in which
//! writing, truncating, syncing and closing go through here. Syncing is only told: the model is the disk.

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, Once, OnceLock, PoisonError};

use rusqlite::ffi::{
    SQLITE_OK, sqlite3_file, sqlite3_filename, sqlite3_initialize, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs,
    sqlite3_vfs_find,
};

use super::disk::Disk;

type Open = unsafe extern "C" fn(*mut sqlite3_vfs, sqlite3_filename, *mut sqlite3_file, c_int, *mut c_int) -> c_int;
type Delete = unsafe extern "C" fn(*mut sqlite3_vfs, *const c_char, c_int) -> c_int;

#[derive(Debug, Default)]
struct Recording {
    folder: Option<String>,
    disk: Disk,
    /// Open files by the address of SQLite's object.
    files: HashMap<usize, Opened>,
    /// Our tables of methods by the address of the one that each replaces.
    tables: HashMap<usize, &'static sqlite3_io_methods>,
}

#[derive(Debug)]
struct Opened {
    name: String,
    original: &'static sqlite3_io_methods,
}

static RECORDING: Mutex<Option<Recording>> = Mutex::new(None);
static WRAP: Once = Once::new();
static OPEN: OnceLock<Open> = OnceLock::new();
static DELETE: OnceLock<Delete> = OnceLock::new();
static ALONE: Mutex<()> = Mutex::new(());

fn recording() -> MutexGuard<'static, Option<Recording>> {
    RECORDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One test at a time.
pub fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins to record what happens in a folder that is empty now.
pub fn record(folder: &Path) {
    WRAP.call_once(wrap);
    let mut recording = recording();
    let before = recording.take().unwrap_or_default();
    let folder = Some(folder.to_str().expect("text").to_owned());
    *recording = Some(Recording { folder, disk: Disk::default(), ..before });
}

/// What the disk has at this moment.
pub fn disk() -> Disk {
    recording().as_ref().expect("recording").disk.clone()
}

/// What follows is nobody's business.
pub fn stop_recording() {
    if let Some(recording) = recording().as_mut() {
        recording.folder = None;
    }
}

/// Tells the model, if the file is one of the recorded folder. The lock is held as long as the guard: what happens
/// and what is recorded are one step.
fn tell(file: *mut sqlite3_file, guard: &mut Option<Recording>, what: impl FnOnce(&mut Disk, &str)) {
    let Some(recording) = guard else { return };
    let Some(opened) = recording.files.get(&(file as usize)) else { return };
    if recording.folder.as_deref().is_some_and(|folder| opened.name.starts_with(folder)) {
        what(&mut recording.disk, &opened.name);
    }
}

#[expect(unsafe_code, reason = "replaces entries of SQLite's table of system calls")]
fn wrap() {
    // SAFETY: the found layer is immortal and writable, and no file is open yet.
    unsafe {
        sqlite3_initialize();
        let vfs = sqlite3_vfs_find(std::ptr::null()).as_mut().expect("a default layer");
        OPEN.set(vfs.xOpen.expect("xOpen")).expect("once");
        DELETE.set(vfs.xDelete.expect("xDelete")).expect("once");
        vfs.xOpen = Some(open);
        vfs.xDelete = Some(delete);
    }
}

/// The table of methods that ours replaces for a file.
fn original(guard: &Option<Recording>, file: *mut sqlite3_file) -> &'static sqlite3_io_methods {
    guard.as_ref().expect("wrapped").files.get(&(file as usize)).expect("an open file").original
}

#[expect(unsafe_code, reason = "called by SQLite in the place of its own function")]
unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: sqlite3_filename,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    let mut guard = recording();
    // SAFETY: the caller's arguments are those of xOpen.
    let code = unsafe { OPEN.get().expect("wrapped")(vfs, name, file, flags, out_flags) };
    if code != SQLITE_OK || name.is_null() {
        return code;
    }
    let recording = guard.get_or_insert_default();
    // SAFETY: an opened file has an immortal table of methods, and its name is text that ends with a zero.
    unsafe {
        let original: &'static sqlite3_io_methods = &*(*file).pMethods;
        let own = recording.tables.entry(std::ptr::from_ref(original) as usize).or_insert_with(|| {
            let mut own = *original;
            own.xWrite = Some(write);
            own.xTruncate = Some(truncate);
            own.xSync = Some(sync);
            own.xClose = Some(close);
            Box::leak(Box::new(own))
        });
        (*file).pMethods = std::ptr::from_ref(*own);
        let name = CStr::from_ptr(name).to_str().expect("text").to_owned();
        recording.files.insert(file as usize, Opened { name, original });
    }
    tell(file, &mut guard, |disk, name| disk.open(name));
    code
}

#[expect(unsafe_code, reason = "called by SQLite in the place of its own function")]
unsafe extern "C" fn delete(vfs: *mut sqlite3_vfs, name: *const c_char, syncs_folder: c_int) -> c_int {
    let mut guard = recording();
    // SAFETY: the caller's arguments are those of xDelete.
    let (code, text) = unsafe {
        let text = CStr::from_ptr(name).to_str().expect("text").to_owned();
        (DELETE.get().expect("wrapped")(vfs, name, syncs_folder), text)
    };
    if code == SQLITE_OK
        && let Some(recording) = guard.as_mut()
        && recording.folder.as_deref().is_some_and(|folder| text.starts_with(folder))
    {
        recording.disk.delete(&text);
        if syncs_folder != 0 {
            recording.disk.sync_folder();
        }
    }
    code
}

#[expect(unsafe_code, reason = "called by SQLite in the place of its own function")]
unsafe extern "C" fn write(file: *mut sqlite3_file, data: *const c_void, size: c_int, at: sqlite3_int64) -> c_int {
    let mut guard = recording();
    // SAFETY: the caller's arguments are those of xWrite.
    let (code, bytes) = unsafe {
        let bytes = std::slice::from_raw_parts(data.cast::<u8>(), size as usize);
        (original(&guard, file).xWrite.expect("xWrite")(file, data, size, at), bytes)
    };
    if code == SQLITE_OK {
        tell(file, &mut guard, |disk, name| disk.write(name, at as usize, bytes));
    }
    code
}

#[expect(unsafe_code, reason = "called by SQLite in the place of its own function")]
unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: sqlite3_int64) -> c_int {
    let mut guard = recording();
    // SAFETY: the caller's arguments are those of xTruncate.
    let code = unsafe { original(&guard, file).xTruncate.expect("xTruncate")(file, size) };
    if code == SQLITE_OK {
        tell(file, &mut guard, |disk, name| disk.truncate(name, size as usize));
    }
    code
}

#[expect(unsafe_code, reason = "called by SQLite in the place of its own function")]
unsafe extern "C" fn sync(file: *mut sqlite3_file, _flags: c_int) -> c_int {
    tell(file, &mut recording(), |disk, name| disk.sync(name));
    SQLITE_OK
}

#[expect(unsafe_code, reason = "called by SQLite in the place of its own function")]
unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    let original = original(&recording(), file);
    // SAFETY: the caller's argument is that of xClose.
    let code = unsafe { original.xClose.expect("xClose")(file) };
    if let Some(recording) = recording().as_mut() {
        recording.files.remove(&(file as usize));
    }
    code
}
