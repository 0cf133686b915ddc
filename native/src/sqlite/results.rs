//! Results, and other values by key, inside a transaction.

use rusqlite::{Connection, OptionalExtension, params};

/// What becomes of one value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewResult<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) is_success: bool,
    /// Leaves a stored success alone.
    pub(crate) protected: bool,
    /// Seconds since the epoch after which it may go.
    pub(crate) expires_s: Option<i64>,
    /// Seconds since the epoch: a success that is past its time is not there any more.
    pub(crate) now_s: i64,
}

/// FNV-1a with a final mix; its low 48 bits, so that an index entry is short.
pub(crate) fn hash_of(key: &[u8]) -> i64 {
    let hash = key
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    ((hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 17) as i64
}

/// The row of a key, and whether it holds a success that still counts.
fn find(connection: &Connection, key: &[u8], now_s: i64) -> rusqlite::Result<Option<(i64, bool)>> {
    connection
        .prepare_cached(
            "SELECT id, is_success AND (expires_s IS NULL OR expires_s > ?3) FROM results WHERE hash = ?1 AND key = ?2",
        )?
        .query_row(params![hash_of(key), key, now_s], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

/// Stores a value unless it has to respect one that is there.
pub(crate) fn store(transaction: &Connection, new: NewResult<'_>) -> rusqlite::Result<()> {
    match find(transaction, new.key, new.now_s)? {
        Some((_, true)) if new.protected => {}
        Some((id, _)) => {
            transaction
                .prepare_cached("UPDATE results SET value = ?2, is_success = ?3, expires_s = ?4 WHERE id = ?1")?
                .execute(params![id, new.value, new.is_success, new.expires_s])?;
        }
        None => {
            transaction
                .prepare_cached(
                    "INSERT INTO results (hash, key, value, is_success, expires_s) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![hash_of(new.key), new.key, new.value, new.is_success, new.expires_s])?;
        }
    }
    Ok(())
}

/// The value of a key, unless it is past its time.
pub(crate) fn load(connection: &Connection, key: &[u8], now_s: i64) -> rusqlite::Result<Option<Vec<u8>>> {
    connection
        .prepare_cached(
            "SELECT value FROM results WHERE hash = ?1 AND key = ?2 AND (expires_s IS NULL OR expires_s > ?3)",
        )?
        .query_row(params![hash_of(key), key, now_s], |row| Ok(row.get_ref(0)?.as_bytes()?.to_vec()))
        .optional()
}

/// Forgets a key.
pub(crate) fn forget(transaction: &Connection, key: &[u8]) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM results WHERE hash = ?1 AND key = ?2")?
        .execute(params![hash_of(key), key])?;
    Ok(())
}

/// Adds to a number under a key, which counts from zero, and returns it.
pub(crate) fn add(transaction: &Connection, key: &[u8], by: i64, expires_s: Option<i64>) -> rusqlite::Result<i64> {
    let before = load(transaction, key, 0)?;
    let number = before.and_then(|value| std::str::from_utf8(&value).ok()?.parse::<i64>().ok()).unwrap_or(0) + by;
    let text = number.to_string();
    let new = NewResult { key, value: text.as_bytes(), is_success: false, protected: false, expires_s, now_s: 0 };
    store(transaction, new)?;
    Ok(number)
}

/// Gives a key another time to end.
pub(crate) fn expire(transaction: &Connection, key: &[u8], expires_s: Option<i64>) -> rusqlite::Result<()> {
    transaction.prepare_cached("UPDATE results SET expires_s = ?3 WHERE hash = ?1 AND key = ?2")?.execute(params![
        hash_of(key),
        key,
        expires_s
    ])?;
    Ok(())
}
