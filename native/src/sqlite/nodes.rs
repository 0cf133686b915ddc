//! Who holds messages: nodes sign on, sign again while they live, and hand back what the dead held.

use rusqlite::{Connection, OptionalExtension, params};

use super::liveness::Liveness;
use crate::clock::MonotonicNs;

/// How this process and this start of the machine are known.
pub(crate) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_or_else(|_| String::new(), |id| id.trim().to_owned())
}

/// Signs a node on and returns its number, which nobody had or will have.
pub(crate) fn sign_on(
    transaction: &Connection,
    name: &str,
    boot: &str,
    now_ns: MonotonicNs,
    lease_ns: u64,
) -> rusqlite::Result<i64> {
    transaction
        .prepare_cached("INSERT INTO nodes (name, boot, seen_ns, lease_ns) VALUES (?1, ?2, ?3, ?4) RETURNING id")?
        .query_row(params![name, boot, now_ns as i64, lease_ns as i64], |row| row.get(0))
}

/// Signs again; false if others have declared the node dead meanwhile.
pub(crate) fn renew(transaction: &Connection, node: i64, now_ns: MonotonicNs) -> rusqlite::Result<bool> {
    let changed = transaction
        .prepare_cached("UPDATE nodes SET seen_ns = ?2 WHERE id = ?1")?
        .execute(params![node, now_ns as i64])?;
    Ok(changed > 0)
}

/// Takes a node off the list unless it still holds something: that is found, and handed back, by others.
pub(crate) fn sign_off(transaction: &Connection, node: i64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM nodes WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM held WHERE owner = ?1)")?
        .execute([node])?;
    Ok(())
}

/// Hands back what dead nodes held; returns how many messages.
pub(crate) fn reclaim(
    transaction: &Connection,
    own: i64,
    boot: &str,
    now_ns: MonotonicNs,
    liveness: Option<&Liveness>,
) -> rusqlite::Result<u64> {
    let mut select = transaction.prepare_cached("SELECT id, boot, seen_ns, lease_ns FROM nodes WHERE id <> ?1")?;
    let others = select
        .query_map([own], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get(3)?)))?
        .collect::<rusqlite::Result<Vec<(i64, String, i64, i64)>>>()?;
    let mut returned = 0;
    for (node, its_boot, seen_ns, lease_ns) in others {
        let silent = its_boot != boot || now_ns as i64 > seen_ns.saturating_add(lease_ns);
        if silent || liveness.is_some_and(|liveness| liveness.is_gone(node)) {
            returned += bury(transaction, node)?;
        }
    }
    Ok(returned)
}

/// Takes a node off the list and hands back what it held, each counted as a delivery that came to nothing.
fn bury(transaction: &Connection, node: i64) -> rusqlite::Result<u64> {
    let any = transaction
        .prepare_cached("SELECT 1 FROM held WHERE owner = ?1 LIMIT 1")?
        .query_row([node], |_| Ok(()))
        .optional()?;
    let mut returned = 0;
    if any.is_some() {
        returned = transaction
            .prepare_cached(
                "INSERT INTO ready (queue, step, id) SELECT m.queue, m.step, m.id \
                 FROM held h JOIN messages m ON m.id = h.id WHERE h.owner = ?1",
            )?
            .execute([node])? as u64;
        transaction
            .prepare_cached(
                "UPDATE messages SET deliveries = deliveries + 1 WHERE id IN (SELECT id FROM held WHERE owner = ?1)",
            )?
            .execute([node])?;
        transaction.prepare_cached("DELETE FROM held WHERE owner = ?1")?.execute([node])?;
    }
    transaction.prepare_cached("DELETE FROM nodes WHERE id = ?1")?.execute([node])?;
    Ok(returned)
}
