//! Counting the parts of chords: each part once, the body for one caller only.

use rusqlite::{Connection, params};

/// How long a finished chord is remembered, so that a part that comes twice does not send the body again.
const FINISHED_KEPT_S: f64 = 3600.0;
/// Stands in the place of a claim's token when the body was sent.
const DONE: &str = "done";

/// What the count of a part came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Counted {
    /// Parts are missing, or the body was sent.
    Nothing = 0,
    /// All are there, and the caller has the claim of the body.
    Claimed = 1,
    /// All are there, but somebody else, who may have died, has the claim.
    ClaimedByAnother = 2,
}

/// A finished task of a chord's header.
#[derive(Debug, Clone, Copy)]
pub struct ChordPart<'a> {
    /// The chord's name, its group's id.
    pub chord: &'a str,
    /// The task's id: a task that ran twice counts once.
    pub task: &'a str,
    /// Its place in the header; infinite for the order of arrival.
    pub position: f64,
    /// The encoded result.
    pub value: &'a [u8],
    /// Names the caller in a claim of the body.
    pub token: &'a str,
    /// How long the claim lasts; after it whoever counts a part may send the body.
    pub claim_s: f64,
    /// Seconds after which an unfinished chord is forgotten.
    pub expires_s: Option<f64>,
}

/// Says how many parts there are. A chord that was completed before begins anew.
pub(crate) fn set_size(
    transaction: &Connection,
    chord: &str,
    size: i64,
    expires_s: Option<f64>,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO chords (name, size, expires_s) VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE \
             SET size = excluded.size, extra = 0, expires_s = excluded.expires_s, claimed_by = NULL, claimed_until_s = NULL",
        )?
        .execute(params![chord, size, expires_s])?;
    Ok(())
}

/// Adds a part and claims the body if all are there and nobody has it.
pub(crate) fn add_part(transaction: &Connection, part: &ChordPart<'_>, now_s: f64) -> rusqlite::Result<Counted> {
    let expires_s = part.expires_s.map(|seconds| now_s + seconds);
    transaction
        .prepare_cached("INSERT OR IGNORE INTO chords (name, expires_s) VALUES (?1, ?2)")?
        .execute(params![part.chord, expires_s])?;
    let (claimed_by, claimed_until_s): (Option<String>, Option<f64>) = transaction
        .prepare_cached("SELECT claimed_by, claimed_until_s FROM chords WHERE name = ?1")?
        .query_row([part.chord], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if claimed_by.as_deref() == Some(DONE) {
        return Ok(Counted::Nothing);
    }
    // The order of arrival is that of the parts so far.
    let position = if part.position.is_finite() { part.position } else { count(transaction, part.chord)? as f64 + 1e9 };
    transaction
        .prepare_cached(
            "INSERT INTO chord_parts (chord, position, task, value) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (chord, task) DO UPDATE SET value = excluded.value",
        )?
        .execute(params![part.chord, position, part.task, part.value])?;
    let size: Option<i64> = transaction
        .prepare_cached("SELECT size + extra FROM chords WHERE name = ?1")?
        .query_row([part.chord], |row| row.get(0))?;
    if size.is_none_or(|size| count(transaction, part.chord).is_ok_and(|count| count < size)) {
        return Ok(Counted::Nothing);
    }
    if claimed_until_s.is_some_and(|until_s| until_s > now_s) {
        return Ok(Counted::ClaimedByAnother);
    }
    transaction
        .prepare_cached("UPDATE chords SET claimed_by = ?2, claimed_until_s = ?3 WHERE name = ?1")?
        .execute(params![part.chord, part.token, now_s + part.claim_s])?;
    Ok(Counted::Claimed)
}

/// Prolongs a claim; false if it is no longer the caller's.
pub(crate) fn extend(transaction: &Connection, chord: &str, token: &str, until_s: f64) -> rusqlite::Result<bool> {
    let changed = transaction
        .prepare_cached("UPDATE chords SET claimed_until_s = ?3 WHERE name = ?1 AND claimed_by = ?2")?
        .execute(params![chord, token, until_s])?;
    Ok(changed > 0)
}

/// Says that the header has one part more.
pub(crate) fn grow(transaction: &Connection, chord: &str) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO chords (name, extra) VALUES (?1, 1) ON CONFLICT (name) DO UPDATE SET extra = extra + 1",
        )?
        .execute([chord])?;
    Ok(())
}

fn count(transaction: &Connection, chord: &str) -> rusqlite::Result<i64> {
    transaction
        .prepare_cached("SELECT count(*) FROM chord_parts WHERE chord = ?1")?
        .query_row([chord], |row| row.get(0))
}

/// The values of the parts, in order.
pub(crate) fn parts(connection: &Connection, chord: &str) -> rusqlite::Result<Vec<Vec<u8>>> {
    let mut select = connection.prepare_cached("SELECT value FROM chord_parts WHERE chord = ?1 ORDER BY position")?;
    select.query_map([chord], |row| Ok(row.get_ref(0)?.as_blob()?.to_vec()))?.collect()
}

/// Forgets the parts if the claim is still the caller's, and remembers that the chord is done.
pub(crate) fn finish(transaction: &Connection, chord: &str, token: &str, now_s: f64) -> rusqlite::Result<()> {
    let until_s = now_s + FINISHED_KEPT_S;
    let changed = transaction
        .prepare_cached(
            "UPDATE chords SET claimed_by = ?4, claimed_until_s = ?3, expires_s = ?3 WHERE name = ?1 AND claimed_by = ?2",
        )?
        .execute(params![chord, token, until_s, DONE])?;
    if changed > 0 {
        transaction.prepare_cached("DELETE FROM chord_parts WHERE chord = ?1")?.execute([chord])?;
    }
    Ok(())
}
