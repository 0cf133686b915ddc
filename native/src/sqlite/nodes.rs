//! Who holds messages: nodes sign on, sign again while they live, and hand back what the dead held.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::consuming;
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
pub(crate) fn sign_off(transaction: &Connection, node: i64, now_s: f64) -> rusqlite::Result<()> {
    consuming::end_all(transaction, node, now_s)?;
    transaction
        .prepare_cached("DELETE FROM nodes WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM held WHERE owner = ?1)")?
        .execute([node])?;
    Ok(())
}

/// What the file says of a node's life.
#[derive(Debug)]
pub(crate) struct SignOfLife {
    node: i64,
    boot: String,
    seen_ns: i64,
    lease_ns: i64,
}

impl SignOfLife {
    /// Of a row that has id, boot, seen and lease from a column on.
    pub(crate) fn of(row: &Row<'_>, first: usize) -> rusqlite::Result<Self> {
        Ok(Self {
            node: row.get(first)?,
            boot: row.get(first + 1)?,
            seen_ns: row.get(first + 2)?,
            lease_ns: row.get(first + 3)?,
        })
    }

    /// Whether the node was silent for too long, or its process is gone.
    pub(crate) fn is_dead(&self, boot: &str, now_ns: MonotonicNs, liveness: Option<&Liveness>) -> bool {
        let silent = self.boot != boot || now_ns as i64 > self.seen_ns.saturating_add(self.lease_ns);
        silent || liveness.is_some_and(|liveness| liveness.is_gone(self.node))
    }
}

/// Hands back what dead nodes held; returns how many messages.
pub(crate) fn reclaim(
    transaction: &Connection,
    own: i64,
    boot: &str,
    (now_ns, now_s): (MonotonicNs, f64),
    liveness: Option<&Liveness>,
) -> rusqlite::Result<u64> {
    let mut select = transaction.prepare_cached("SELECT id, boot, seen_ns, lease_ns FROM nodes WHERE id <> ?1")?;
    let others =
        select.query_map([own], |row| SignOfLife::of(row, 0))?.collect::<rusqlite::Result<Vec<SignOfLife>>>()?;
    let mut returned = 0;
    for other in others {
        if other.is_dead(boot, now_ns, liveness) {
            returned += bury(transaction, other.node, now_s)?;
        }
    }
    Ok(returned)
}

/// Takes a node off the list and hands back what it held, each counted as a delivery that came to nothing.
fn bury(transaction: &Connection, node: i64, now_s: f64) -> rusqlite::Result<u64> {
    consuming::end_all(transaction, node, now_s)?;
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
