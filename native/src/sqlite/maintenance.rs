//! What has to go some time: expired results, old broadcasts, queues that nobody uses; and what people look at.

use rusqlite::{Connection, params};

use super::messages;

/// Results that one transaction deletes, so that nobody waits long for it.
const EXPIRED_BATCH: i64 = 1000;
/// How long a broadcast waits for readers that are slow.
const FANOUT_KEPT_S: f64 = 60.0;

/// One queue, as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueReport {
    /// Its name.
    pub name: String,
    /// Messages that wait.
    pub ready: u64,
    /// Messages whose time has not come.
    pub scheduled: u64,
    /// Messages that workers hold.
    pub held: u64,
}

/// Deletes what is past its time; true if there may be more.
pub(crate) fn tidy(transaction: &Connection, now_s: f64) -> rusqlite::Result<bool> {
    let expired = transaction
        .prepare_cached(
            "DELETE FROM results WHERE id IN \
             (SELECT id FROM results WHERE expires_s IS NOT NULL AND expires_s <= ?1 LIMIT ?2)",
        )?
        .execute(params![now_s as i64, EXPIRED_BATCH])?;
    transaction.prepare_cached("DELETE FROM fanout WHERE at_s < ?1")?.execute([now_s - FANOUT_KEPT_S])?;
    let mut select = transaction.prepare_cached(
        "SELECT name FROM queues WHERE expires_s IS NOT NULL AND used_s + expires_s < ?1 \
         AND NOT EXISTS (SELECT 1 FROM consumers c WHERE c.queue = queues.id) LIMIT 100",
    )?;
    let unused = select.query_map([now_s], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    for name in unused {
        delete_queue(transaction, &name)?;
    }
    let old_chords =
        transaction.prepare_cached("SELECT name FROM chords WHERE expires_s IS NOT NULL AND expires_s < ?1 LIMIT 100");
    let names = old_chords?.query_map([now_s], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    for name in names {
        transaction.prepare_cached("DELETE FROM chord_parts WHERE chord = ?1")?.execute([&name])?;
        transaction.prepare_cached("DELETE FROM chords WHERE name = ?1")?.execute([&name])?;
    }
    Ok(expired as i64 == EXPIRED_BATCH)
}

/// Deletes the messages of a queue that nobody holds; returns how many.
pub(crate) fn purge(transaction: &Connection, name: &str) -> rusqlite::Result<u64> {
    let Some(queue) = messages::known_queue(transaction, name)? else { return Ok(0) };
    let unheld = "SELECT id FROM messages WHERE queue = ?1 AND id NOT IN (SELECT id FROM held)";
    transaction.execute(&format!("DELETE FROM later WHERE id IN ({unheld})"), [queue])?;
    transaction.execute("DELETE FROM ready WHERE queue = ?1", [queue])?;
    Ok(transaction.execute(&format!("DELETE FROM messages WHERE id IN ({unheld})"), [queue])? as u64)
}

/// Deletes a queue, its messages and its bindings. What workers hold stays theirs, and as long as somebody consumes the
/// queue its number stays: it would go on reading a number that means nothing any more, or another queue.
pub(crate) fn delete_queue(transaction: &Connection, name: &str) -> rusqlite::Result<()> {
    purge(transaction, name)?;
    transaction.execute("DELETE FROM bindings WHERE queue = ?1", [name])?;
    transaction.execute(
        "DELETE FROM queues WHERE name = ?1 AND id NOT IN (SELECT queue FROM consumers) \
         AND id NOT IN (SELECT m.queue FROM held h JOIN messages m ON m.id = h.id)",
        [name],
    )?;
    Ok(())
}

/// How many messages wait in a queue.
pub(crate) fn size(connection: &Connection, name: &str) -> rusqlite::Result<u64> {
    let Some(queue) = messages::known_queue(connection, name)? else { return Ok(0) };
    connection
        .prepare_cached("SELECT count(*) FROM ready WHERE queue = ?1")?
        .query_row([queue], |row| row.get::<_, i64>(0))
        .map(|count| count as u64)
}

/// Every queue and what it holds.
pub(crate) fn report(connection: &Connection) -> rusqlite::Result<Vec<QueueReport>> {
    let mut select = connection.prepare(
        "SELECT q.name, \
         (SELECT count(*) FROM ready r WHERE r.queue = q.id), \
         (SELECT count(*) FROM later l JOIN messages m ON m.id = l.id WHERE m.queue = q.id), \
         (SELECT count(*) FROM held h JOIN messages m ON m.id = h.id WHERE m.queue = q.id) \
         FROM queues q ORDER BY q.name",
    )?;
    let rows = select.query_map([], |row| {
        let count = |index: usize| row.get::<_, i64>(index).map(|count| count as u64);
        Ok(QueueReport { name: row.get(0)?, ready: count(1)?, scheduled: count(2)?, held: count(3)? })
    })?;
    rows.collect()
}

/// What SQLite finds wrong with the file; empty if nothing.
pub(crate) fn problems(connection: &Connection, thorough: bool) -> rusqlite::Result<Vec<String>> {
    let sql = if thorough { "PRAGMA integrity_check(20)" } else { "PRAGMA quick_check(20)" };
    let mut check = connection.prepare(sql)?;
    let lines = check.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    let mut lines: Vec<String> = lines.into_iter().filter(|line| line != "ok").collect();
    // Every message is in exactly one place.
    let lost: i64 = connection.query_row(
        "SELECT count(*) FROM messages m WHERE \
         (EXISTS (SELECT 1 FROM ready r WHERE r.queue = m.queue AND r.step = m.step AND r.id = m.id)) + \
         (m.due_s IS NOT NULL AND EXISTS (SELECT 1 FROM later l WHERE l.due_s = m.due_s AND l.id = m.id)) + \
         (EXISTS (SELECT 1 FROM held h WHERE h.id = m.id)) <> 1",
        [],
        |row| row.get(0),
    )?;
    if lost > 0 {
        lines.push(format!("{lost} messages are not in exactly one of ready, later and held"));
    }
    Ok(lines)
}
