//! The file's identity: whose it is, which version, and what must be so before anything is done with it.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::database::refused;
use crate::error::{Error, ErrorKind, Result};

/// `pyw1`: in the header of the file, where `file` and others find it.
const APPLICATION_ID: i64 = 0x7079_7731;
/// Steps from one version to the next; the first makes the tables. Their number is the version that this code writes.
const MIGRATIONS: [&str; 2] = [include_str!("schema.sql"), include_str!("schema_2.sql")];

/// File systems on which locks or shared memory of several processes cannot be relied on.
const NETWORK_FILE_SYSTEMS: [(i64, &str); 9] = [
    (0x6969, "NFS"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB"),
    (0x517B, "SMB"),
    (0x5346_414F, "AFS"),
    (0x00C3_6400, "Ceph"),
    (0x0BD0_0BD0, "Lustre"),
    (0x0102_1997, "9P"),
    (0x7461_636F, "OCFS2"),
];

fn config(path: &Path, text: &str) -> Error {
    Error::new(ErrorKind::Config, format!("sqlite: {}: {text}", path.display()))
}

/// Refuses places where a file cannot work.
pub(crate) fn check_place(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if path.is_dir() {
        return Err(config(path, "is a folder, not a file"));
    }
    if !folder.is_dir() {
        return Err(config(path, "its folder does not exist"));
    }
    if let Some(kind) = network_name(file_system(folder)?) {
        return Err(config(
            path,
            &format!(
                "lies on a network file system ({kind}), where SQLite's locks and shared memory cannot be relied on"
            ),
        ));
    }
    if !is_writable(folder) {
        return Err(config(path, "its folder is read-only for this user; SQLite keeps its log beside the file"));
    }
    if path.exists() && !is_writable(path) {
        return Err(config(path, "is read-only for this user"));
    }
    Ok(())
}

/// Checks whose file it is and brings it to our version.
pub(crate) fn prepare(connection: &mut Connection, path: &Path) -> Result<()> {
    migrate(connection, path, &MIGRATIONS)
}

/// Takes the steps that a file lacks, all or none.
fn migrate(connection: &mut Connection, path: &Path, steps: &[&str]) -> Result<()> {
    let newest = steps.len() as i64;
    if check_identity(connection, path, newest)? == newest {
        return Ok(());
    }
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(|error| refused(path, &error))?;
    // Another process may have been faster.
    let version = check_identity(&transaction, path, newest)?;
    for step in steps.iter().skip(version as usize) {
        transaction.execute_batch(step).map_err(|error| refused(path, &error))?;
    }
    let stamp = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {newest};");
    transaction.execute_batch(&stamp).map_err(|error| refused(path, &error))?;
    transaction.commit().map_err(|error| refused(path, &error))
}

/// The version of a file of ours, zero for an empty one.
fn check_identity(connection: &Connection, path: &Path, newest: i64) -> Result<i64> {
    // One statement sees one state, also while another process is making the file.
    let found = connection.query_row(
        "SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version), \
         (SELECT count(*) FROM sqlite_master)",
        [],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)),
    );
    let (id, version, tables) = found.map_err(|error| refused(path, &error))?;
    if tables == 0 && id == 0 && version == 0 {
        return Ok(0);
    }
    if id != APPLICATION_ID {
        return Err(config(path, "is a SQLite database of another program; it is left untouched"));
    }
    if version > newest {
        return Err(config(
            path,
            &format!("was written by a newer pyworker (schema {version}, this one knows {newest})"),
        ));
    }
    Ok(version)
}

/// What the file system's number means, if it is one to be refused.
fn network_name(kind: i64) -> Option<&'static str> {
    NETWORK_FILE_SYSTEMS.iter().find(|(known, _)| *known == kind).map(|(_, name)| *name)
}

/// The kernel's number of the kind of file system that a folder is on.
#[expect(unsafe_code, reason = "statfs has no wrapper")]
fn file_system(folder: &Path) -> Result<i64> {
    let path = c_path(folder)?;
    // SAFETY: all bytes zero is a valid structure; the path is terminated and lives during the call.
    let kind = unsafe {
        let mut status: libc::statfs = std::mem::zeroed();
        if libc::statfs(path.as_ptr(), &raw mut status) != 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        status.f_type
    };
    // A signed word of the machine's width, of which only 32 bits mean something.
    Ok(kind & 0xFFFF_FFFF)
}

#[expect(unsafe_code, reason = "access has no wrapper")]
fn is_writable(path: &Path) -> bool {
    let Ok(path) = c_path(path) else { return false };
    // SAFETY: the path is terminated and lives during the call.
    unsafe { libc::access(path.as_ptr(), libc::W_OK) == 0 }
}

fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::new(ErrorKind::Config, "sqlite: the path contains a zero byte"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn network_file_systems_are_known_by_number() {
        assert_eq!(network_name(0x6969), Some("NFS"));
        assert_eq!(network_name(0xFE53_4D42), Some("SMB"));
        assert_eq!(network_name(0xEF53), None);
    }

    #[test]
    fn the_kernel_is_asked_for_that_number() {
        // There is no network file system here to ask about; of these it is known what they are.
        assert_eq!(file_system(Path::new("/proc")).unwrap(), 0x9FA0);
        assert_eq!(file_system(Path::new("/sys")).unwrap(), 0x6265_6572);
        assert!(file_system(Path::new("/nonexistent-folder")).is_err());
    }

    #[test]
    fn a_file_of_an_older_version_is_brought_up_to_date_whole_or_not_at_all() {
        let path = Path::new("test");
        let mut connection = Connection::open_in_memory().unwrap();
        let first = "CREATE TABLE things (name TEXT); INSERT INTO things VALUES ('kept')";
        let second = "ALTER TABLE things ADD COLUMN size INTEGER NOT NULL DEFAULT 7";
        migrate(&mut connection, path, &[first]).unwrap();
        let broken = migrate(&mut connection, path, &[first, second, "CREATE TABLE things (name TEXT)"]);
        assert!(broken.unwrap_err().to_string().contains("already exists"));
        assert_eq!(check_identity(&connection, path, 3).unwrap(), 1);
        migrate(&mut connection, path, &[first, second]).unwrap();
        assert_eq!(check_identity(&connection, path, 2).unwrap(), 2);
        let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?));
        assert_eq!(connection.query_row("SELECT name, size FROM things", [], row).unwrap(), ("kept".into(), 7));
        // Again it does nothing, and an older program refuses.
        migrate(&mut connection, path, &[first, second]).unwrap();
        let refusal = migrate(&mut connection, path, &[first]).unwrap_err().to_string();
        assert!(refusal.contains("newer pyworker (schema 2, this one knows 1)"));
    }

    #[test]
    fn places_are_checked() {
        let text = |path: &str| check_place(Path::new(path)).unwrap_err().to_string();
        assert!(text("/nonexistent-folder/x.db").contains("folder does not exist"));
        assert!(text("/tmp").contains("is a folder"));
    }
}
