//! Who consumes which queue: a consumed queue neither expires nor loses its number, and who asks all listeners of an
//! exchange knows how many there are.

use rusqlite::{Connection, params};

use super::liveness::Liveness;
use super::nodes;
use crate::clock::MonotonicNs;

/// A node begins to consume a queue; again changes nothing. `exchange` is a fan-out exchange to which it listens so.
pub(crate) fn begin(transaction: &Connection, queue: i64, owner: i64, exchange: Option<&str>) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO consumers (queue, owner, exchange) VALUES (?1, ?2, ?3)")?
        .execute(params![queue, owner, exchange])?;
    Ok(())
}

/// A node no longer consumes a queue, which counts as used until now.
pub(crate) fn end(transaction: &Connection, queue: i64, owner: i64, now_s: f64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM consumers WHERE queue = ?1 AND owner = ?2")?
        .execute(params![queue, owner])?;
    touch(transaction, queue, now_s)
}

/// A node no longer consumes anything.
pub(crate) fn end_all(transaction: &Connection, owner: i64, now_s: f64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE queues SET used_s = ?2 WHERE expires_s IS NOT NULL \
             AND id IN (SELECT queue FROM consumers WHERE owner = ?1)",
        )?
        .execute(params![owner, now_s])?;
    transaction.prepare_cached("DELETE FROM consumers WHERE owner = ?1")?.execute([owner])?;
    Ok(())
}

/// A queue counts as used now.
pub(crate) fn touch(transaction: &Connection, queue: i64, now_s: f64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE queues SET used_s = ?2 WHERE id = ?1 AND expires_s IS NOT NULL")?
        .execute(params![queue, now_s])?;
    Ok(())
}

/// The queues by which living nodes listen to a fan-out exchange.
pub(crate) fn listeners(
    connection: &Connection,
    exchange: &str,
    now_ns: MonotonicNs,
    liveness: Option<&Liveness>,
) -> rusqlite::Result<Vec<String>> {
    let mut select = connection.prepare_cached(
        "SELECT q.name, n.id, n.boot, n.seen_ns, n.lease_ns FROM consumers c \
         JOIN queues q ON q.id = c.queue JOIN nodes n ON n.id = c.owner WHERE c.exchange = ?1 ORDER BY q.name",
    )?;
    let found = select
        .query_map([exchange], |row| Ok((row.get(0)?, nodes::SignOfLife::of(row, 1)?)))?
        .collect::<rusqlite::Result<Vec<(String, nodes::SignOfLife)>>>()?;
    let boot = nodes::boot_id();
    Ok(found.into_iter().filter(|(_, node)| !node.is_dead(&boot, now_ns, liveness)).map(|(queue, _)| queue).collect())
}
