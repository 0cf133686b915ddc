//! The small file beside a database: words that wake others (`bell.rs`) and bytes that say who lives (`liveness.rs`).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use super::place::target_of;
use crate::error::{Error, ErrorKind, Result};

/// Attempts to open what others make and delete meanwhile.
const ATTEMPTS: usize = 10;

/// The side file of a database.
pub(crate) fn side_path(database: &Path) -> PathBuf {
    let mut name = target_of(database).into_os_string();
    name.push("-bell");
    PathBuf::from(name)
}

/// Opens the side file, making it if it is not there. `None` where it cannot be had and cannot be expected to be.
///
/// # Errors
///
/// `Resource` if the disk is full: that passes. `Config` if only others may write it: they would take us for dead.
pub(crate) fn open(database: &Path) -> Result<Option<File>> {
    let path = side_path(database);
    for _ in 0..ATTEMPTS {
        let mut opened = OpenOptions::new().read(true).write(true).open(&path);
        if opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            opened = make(&path, database);
        }
        match opened {
            Ok(file) => return Ok(Some(file)),
            // Somebody else was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return unusable(database, error).map(|()| None),
        }
    }
    Ok(None)
}

/// Makes it for the same users as the database, as SQLite does with its own side files.
fn make(path: &Path, database: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    if let Ok(metadata) = std::fs::metadata(database) {
        // Only root may give files away, and only to groups of one's own may others.
        let _ = fchown(&file, None, Some(metadata.gid()));
        let _ = fchown(&file, Some(metadata.uid()), None);
        file.set_permissions(PermissionsExt::from_mode(metadata.mode() & 0o777))?;
    }
    Ok(file)
}

/// What it means that the side file cannot be used: an error, or that one does without.
pub(crate) fn unusable(database: &Path, error: io::Error) -> Result<()> {
    let path = side_path(database);
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let text = format!("sqlite: {}: is not to be written by this user, as the database is", path.display());
            Err(Error::new(ErrorKind::Config, text))
        }
        io::ErrorKind::StorageFull => Err(Error::from(error).context(&format!("sqlite: {}", path.display()))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn it_is_for_the_users_of_the_database_and_beside_the_file_that_a_link_leads_to() {
        let folder = std::env::temp_dir().join(format!("pyworker-side-file-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for mode in [0o600, 0o660, 0o666] {
            let database = folder.join(format!("{mode:o}.db"));
            let link = folder.join(format!("{mode:o}.link"));
            File::create(&database).unwrap().set_permissions(PermissionsExt::from_mode(mode)).unwrap();
            std::os::unix::fs::symlink(&database, &link).unwrap();
            let made = open(&link).unwrap().expect("a side file").metadata().unwrap();
            assert_eq!(made.mode() & 0o777, mode);
            assert_eq!(open(&database).unwrap().expect("a side file").metadata().unwrap().ino(), made.ino());
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_cannot_be_had_is_done_without() {
        assert!(open(Path::new("/nonexistent-folder/file.db")).unwrap().is_none());
    }
}
