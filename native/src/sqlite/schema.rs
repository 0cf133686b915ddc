//! The file's identity: whose it is and which version.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::database::refused;
use crate::error::{Error, ErrorKind, Result};

/// `pyw1`: in the header of the file, where `file` and others find it.
const APPLICATION_ID: i64 = 0x7079_7731;
/// Steps from one version to the next; the first makes the tables. Their number is the version that this code writes.
const MIGRATIONS: [&str; 2] = [include_str!("schema.sql"), include_str!("schema_2.sql")];

fn config(path: &Path, text: &str) -> Error {
    Error::new(ErrorKind::Config, format!("sqlite: {}: {text}", path.display()))
}

/// Checks whose file it is and brings it to our version.
pub(crate) fn prepare(connection: &mut Connection, path: &Path) -> Result<()> {
    migrate(connection, path, &MIGRATIONS)
}

/// Refuses to write a file that a newer program has taken over since it was opened: what its tables mean is not known.
pub(crate) fn check_version(connection: &Connection, path: &Path) -> Result<()> {
    let version = connection
        .prepare_cached("PRAGMA user_version")
        .and_then(|mut statement| statement.query_row([], |row| row.get::<_, i64>(0)))
        .map_err(|error| refused(path, &error))?;
    let own = MIGRATIONS.len() as i64;
    if version == own { Ok(()) } else { Err(of_another_version(path, version, own)) }
}

fn of_another_version(path: &Path, version: i64, own: i64) -> Error {
    let age = if version > own { "a newer" } else { "an older" };
    config(path, &format!("was written by {age} pyworker (schema {version}, this one knows {own})"))
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
        return Err(of_another_version(path, version, newest));
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

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
}
