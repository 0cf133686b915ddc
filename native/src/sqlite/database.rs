//! One connection, its settings, and its transactions.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use super::bell::Bell;
use super::{SqliteAddress, fork, place, schema};
use crate::error::{Error, ErrorKind, Result};

/// Log pages after which the log is copied into the database: pages that change often are copied once.
const CHECKPOINT_PAGES: u32 = 8000;
/// What the log may keep on the disk when it is empty.
const LOG_KEPT_BYTES: u64 = 64 << 20;
const CACHE_KIB: u32 = 16 << 10;
const STATEMENTS_CACHED: usize = 64;
/// Waits between attempts to get the write lock: SQLite's own grow to 100 ms, by which a busy writer starves the rest.
const ATTEMPT_MIN: Duration = Duration::from_micros(50);
const ATTEMPT_MAX: Duration = Duration::from_micros(1000);
/// How long a writer stands back for one that waits.
const COURTESY: Duration = Duration::from_micros(300);

/// How a transaction is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commit {
    /// On the disk before anybody is told.
    Durable,
    /// May be lost by a power cut, never by the death of processes: claims and signs of life, whose loss costs nothing.
    Relaxed,
}

/// A connection of one thread at a time.
#[derive(Debug)]
pub(crate) struct Database {
    connection: Connection,
    path: PathBuf,
    is_durable: bool,
    inode: u64,
    busy_timeout: Duration,
    /// The side file, for the queue of writers.
    bell: Option<Bell>,
    /// We had the write lock last, as far as we know.
    had_lock: bool,
}

impl Database {
    /// Opens a file, making it if it is not there.
    ///
    /// # Errors
    ///
    /// `Config` for a file or place that is not ours to use; nothing was changed then.
    pub(crate) fn open(address: &SqliteAddress) -> Result<Self> {
        let path = &address.path;
        place::check_place(path)?;
        let _inside = fork::enter();
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(|error| refused(path, &error))?;
        let fail = |error: rusqlite::Error| refused(path, &error);
        let busy_timeout = Duration::from_millis(u64::from(address.busy_timeout_ms));
        connection.busy_timeout(busy_timeout).map_err(fail)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
        // Several processes may make the file at the same time. SQLite does not wait where two of them want more than
        // each other's shared lock allows.
        let mode = patiently(busy_timeout, || {
            schema::prepare(&mut connection, path)?;
            connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0)).map_err(fail)
        })?;
        if !mode.eq_ignore_ascii_case("wal") {
            let text = format!("sqlite: {}: the file system does not allow write-ahead logging", path.display());
            return Err(Error::new(ErrorKind::Config, text));
        }
        // A commit only appends to the log; who has to be sure waits for the disk afterwards, when others can write again.
        let level = if address.durable { "NORMAL" } else { "OFF" };
        let settings = format!(
            "PRAGMA synchronous = {level}; PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}; PRAGMA journal_size_limit = {LOG_KEPT_BYTES}; \
             PRAGMA cache_size = -{CACHE_KIB}; PRAGMA temp_store = MEMORY; PRAGMA foreign_keys = OFF;"
        );
        connection.execute_batch(&settings).map_err(fail)?;
        // On a full disk it is looked for again by whoever waits on it; what is not to be used is said now.
        let bell = match Bell::open(path) {
            Err(error) if error.kind() == ErrorKind::Config => return Err(error),
            opened => opened.ok(),
        };
        let inode = std::fs::metadata(path).map_or(0, |metadata| metadata.ino());
        Ok(Self {
            connection,
            path: path.clone(),
            is_durable: address.durable,
            inode,
            busy_timeout,
            bell,
            had_lock: false,
        })
    }

    /// Runs a write transaction; everything or nothing.
    pub(crate) fn write<T>(
        &mut self,
        commit: Commit,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let _inside = self.begin()?;
        let outcome = self.transact(commit, work);
        if outcome.is_err() && !self.connection.is_autocommit() {
            // It is rolled back at the latest when the connection is closed.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        outcome
    }

    fn transact<T>(&self, commit: Commit, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let fail = |error: rusqlite::Error| refused(&self.path, &error);
        schema::check_version(&self.connection, &self.path)?;
        let outcome = work(&self.connection).map_err(fail)?;
        self.connection.execute_batch("COMMIT").map_err(fail)?;
        if commit == Commit::Durable && self.is_durable {
            self.sync_log().map_err(fail)?;
        }
        Ok(outcome)
    }

    /// Gets the write lock, in turn with others; a fork can happen while we wait.
    fn begin(&mut self) -> Result<fork::Inside> {
        let begun = Instant::now();
        let mut pause = ATTEMPT_MIN;
        if self.had_lock && self.bell.as_ref().is_some_and(Bell::is_anybody_hungry) {
            std::thread::sleep(COURTESY);
        }
        loop {
            let inside = fork::enter();
            let attempt = self
                .connection
                .busy_timeout(Duration::ZERO)
                .and_then(|()| self.connection.execute_batch("BEGIN IMMEDIATE"));
            let restored = self.connection.busy_timeout(self.busy_timeout);
            match attempt.and(restored) {
                Ok(()) => {
                    self.had_lock = true;
                    return Ok(inside);
                }
                Err(error) => {
                    let error = refused(&self.path, &error);
                    if error.kind() != ErrorKind::ServerBusy || begun.elapsed() >= self.busy_timeout {
                        return Err(error);
                    }
                }
            }
            drop(inside);
            self.had_lock = false;
            if let Some(bell) = &self.bell {
                bell.be_hungry();
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(ATTEMPT_MAX);
        }
    }

    /// Reads one state of the file.
    pub(crate) fn read<T>(&mut self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let _inside = fork::enter();
        work(&self.connection).map_err(|error| refused(&self.path, &error))
    }

    /// A number that changes when another connection has committed.
    pub(crate) fn version(&mut self) -> Result<i64> {
        self.read(|connection| connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0)))
    }

    /// Whether the file at the path is still the one that was opened.
    pub(crate) fn is_current(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode)
    }

    /// Rewrites the file without its holes.
    pub(crate) fn vacuum(&mut self) -> Result<()> {
        self.read(|connection| connection.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE);"))
    }

    /// Waits until the log is on the disk: all of it, whoever wrote it. Those who commit meanwhile need not wait for us,
    /// and the kernel serves several who wait at once.
    #[expect(unsafe_code, reason = "the log's file has no wrapper")]
    fn sync_log(&self) -> rusqlite::Result<()> {
        let mut log: *mut ffi::sqlite3_file = std::ptr::null_mut();
        // SAFETY: the connection is open; this operation stores a pointer, which is valid as long as the connection is
        // open and in this mode. A file that was opened has a table of methods.
        let code = unsafe {
            let code = ffi::sqlite3_file_control(
                self.connection.handle(),
                c"main".as_ptr(),
                ffi::SQLITE_FCNTL_JOURNAL_POINTER,
                (&raw mut log).cast(),
            );
            let methods = log.as_ref().and_then(|file| file.pMethods.as_ref());
            match methods.and_then(|methods| methods.xSync) {
                Some(sync) if code == ffi::SQLITE_OK => sync(log, ffi::SQLITE_SYNC_NORMAL),
                _ => ffi::SQLITE_IOERR,
            }
        };
        if code == ffi::SQLITE_OK {
            return Ok(());
        }
        Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some("the log cannot be synced".into())))
    }
}

/// Tries until nobody else is in the way, at most for the time given.
fn patiently<T>(most: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    let mut pause = ATTEMPT_MIN;
    loop {
        match attempt() {
            Err(error) if error.kind() == ErrorKind::ServerBusy && begun.elapsed() < most => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(ATTEMPT_MAX);
            }
            ended => return ended,
        }
    }
}

/// What an error of SQLite means for us.
pub(crate) fn refused(path: &Path, error: &rusqlite::Error) -> Error {
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
            ErrorKind::ServerBusy
        }
        Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure | ErrorCode::OutOfMemory) => ErrorKind::Resource,
        Some(ErrorCode::NotADatabase | ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            ErrorKind::Config
        }
        Some(ErrorCode::TooBig) => ErrorKind::TooLarge,
        Some(_) => ErrorKind::ServerRefused,
        None => ErrorKind::Internal,
    };
    let why = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt) => "the file is damaged: ",
        // SQLite says so itself where it writes the file; of its side files it only says that something failed.
        Some(ErrorCode::SystemIoFailure) if is_disk_full(path) => "the disk is full: ",
        _ => "",
    };
    Error::new(kind, format!("sqlite: {}: {why}{error}", path.display()))
}

/// Whether nothing is left on the disk of a file for this user.
#[expect(unsafe_code, reason = "statvfs has no wrapper")]
fn is_disk_full(path: &Path) -> bool {
    let target = place::target_of(path);
    let Ok(folder) = CString::new(place::folder_of(&target).as_os_str().as_bytes()) else { return false };
    // SAFETY: all bytes zero is a valid structure; the path is terminated and lives during the call.
    unsafe {
        let mut status: libc::statvfs = std::mem::zeroed();
        libc::statvfs(folder.as_ptr(), &raw mut status) == 0 && status.f_blocks > 0 && status.f_bavail == 0
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Closing may copy the log into the database; a fork waits for it.
        let _inside = fork::enter();
        let connection = Connection::open_in_memory();
        if let Ok(connection) = connection {
            drop(std::mem::replace(&mut self.connection, connection));
        }
    }
}
