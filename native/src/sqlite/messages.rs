//! Messages inside a transaction: publishing, fetching in kombu's order, ends of deliveries.

use rusqlite::{Connection, OptionalExtension, params};

use crate::broker::Settlement;
use crate::error::Error;
use crate::message::{Envelope, parse_envelope};

/// Bytes of one fetch.
const FETCH_MAX_BYTES: usize = 1 << 20;

/// A message that is about to be published.
#[derive(Debug)]
pub(crate) struct NewMessage<'a> {
    pub(crate) queue: &'a str,
    pub(crate) step: u8,
    pub(crate) due_s: Option<f64>,
    pub(crate) expires_s: Option<f64>,
    pub(crate) body: &'a [u8],
}

/// A message as it was fetched.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) id: u64,
    /// Index into the queues of whoever fetched.
    pub(crate) queue: u16,
    pub(crate) deliveries: u32,
    pub(crate) body: Vec<u8>,
}

/// The step of a priority: the highest one that is not above it.
pub(crate) fn step_of(steps: &[u8], priority: i64) -> u8 {
    let priority = priority.clamp(0, 9);
    steps.iter().rev().find(|step| i64::from(**step) <= priority).or(steps.last()).copied().unwrap_or(0)
}

/// When a message may start and until when it makes sense, as its headers say.
pub(crate) fn times_of(body: &[u8]) -> (Option<f64>, Option<f64>) {
    let parsed: Result<Envelope, (Error, Vec<u8>)> = parse_envelope(body.to_vec(), u64::MAX);
    parsed.map_or((None, None), |envelope| (envelope.eta_s(), envelope.expires_s()))
}

/// The number of a queue, if there is one.
pub(crate) fn known_queue(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    connection.prepare_cached("SELECT id FROM queues WHERE name = ?1")?.query_row([name], |row| row.get(0)).optional()
}

/// The number of a queue, made if it is new.
pub(crate) fn queue_id(transaction: &Connection, name: &str) -> rusqlite::Result<i64> {
    match known_queue(transaction, name)? {
        Some(id) => Ok(id),
        None => transaction
            .prepare_cached("INSERT INTO queues (name) VALUES (?1) RETURNING id")?
            .query_row([name], |row| row.get(0)),
    }
}

/// Adds messages in order. Ids only grow, also beyond deletions: they name deliveries and decide the order.
pub(crate) fn publish(transaction: &Connection, messages: &[NewMessage<'_>], now_s: f64) -> rusqlite::Result<()> {
    let first: i64 = transaction
        .prepare_cached("UPDATE sequence SET next = next + ?1 RETURNING next - ?1")?
        .query_row([messages.len() as i64], |row| row.get(0))?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO messages (id, queue, step, due_s, expires_s, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let mut ready = transaction.prepare_cached("INSERT INTO ready (queue, step, id) VALUES (?1, ?2, ?3)")?;
    let mut later = transaction.prepare_cached("INSERT INTO later (due_s, id) VALUES (?1, ?2)")?;
    let mut last_queue: Option<(&str, i64)> = None;
    for (nth, message) in messages.iter().enumerate() {
        let queue = match last_queue {
            Some((name, id)) if name == message.queue => id,
            _ => queue_id(transaction, message.queue)?,
        };
        last_queue = Some((message.queue, queue));
        let id = first + nth as i64;
        let due_s = message.due_s.filter(|due_s| *due_s > now_s);
        insert.execute(params![id, queue, message.step, due_s, message.expires_s, message.body])?;
        match due_s {
            Some(due_s) => later.execute(params![due_s, id])?,
            None => ready.execute(params![queue, message.step, id])?,
        };
    }
    Ok(())
}

/// Makes ready what is due.
pub(crate) fn promote(transaction: &Connection, now_s: f64) -> rusqlite::Result<usize> {
    let moved = transaction
        .prepare_cached(
            "INSERT INTO ready (queue, step, id) SELECT m.queue, m.step, m.id \
             FROM later l JOIN messages m ON m.id = l.id WHERE l.due_s <= ?1",
        )?
        .execute([now_s])?;
    if moved > 0 {
        transaction.prepare_cached("DELETE FROM later WHERE due_s <= ?1")?.execute([now_s])?;
    }
    Ok(moved)
}

/// When the next message is due.
pub(crate) fn next_due_s(connection: &Connection) -> rusqlite::Result<Option<f64>> {
    connection.prepare_cached("SELECT min(due_s) FROM later")?.query_row([], |row| row.get(0))
}

/// One queue of those that are read in turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    /// The reader's number of the queue.
    pub(crate) index: u16,
    /// The file's.
    pub(crate) id: i64,
}

/// Takes up to `want` messages for a node: the most urgent step first, the queues of a step in turn if `fair`, else
/// one after the other. Says whether there may be more.
pub(crate) fn fetch(
    transaction: &Connection,
    sources: &[Source],
    fair: bool,
    want: usize,
    owner: i64,
) -> rusqlite::Result<(Vec<Fetched>, bool)> {
    let mut head = transaction.prepare_cached("SELECT min(step) FROM ready WHERE queue = ?1")?;
    let mut fetched = Vec::new();
    let mut size_bytes = 0;
    let mut steps = Vec::with_capacity(sources.len());
    for source in sources {
        steps.push(head.query_row([source.id], |row| row.get::<_, Option<i64>>(0))?);
    }
    while fetched.len() < want && size_bytes < FETCH_MAX_BYTES {
        let Some(step) = steps.iter().flatten().min().copied() else { break };
        let mut turn: Vec<usize> = (0..sources.len()).filter(|nth| steps[*nth] == Some(step)).collect();
        if !fair {
            turn.truncate(1);
        }
        let share = (want - fetched.len()).div_ceil(turn.len());
        let mut lists = Vec::with_capacity(turn.len());
        let mut left = want - fetched.len();
        for nth in turn {
            let asked = share.min(left);
            let list = take(transaction, sources[nth], step, asked, owner)?;
            if list.len() < asked {
                steps[nth] = head.query_row([sources[nth].id], |row| row.get(0))?;
            }
            left -= list.len();
            size_bytes += list.iter().map(|message| message.body.len()).sum::<usize>();
            lists.push(list.into_iter());
        }
        loop {
            let before = fetched.len();
            fetched.extend(lists.iter_mut().filter_map(Iterator::next));
            if fetched.len() == before {
                break;
            }
        }
    }
    let more = fetched.len() >= want || size_bytes >= FETCH_MAX_BYTES;
    Ok((fetched, more))
}

fn take(
    transaction: &Connection,
    source: Source,
    step: i64,
    most: usize,
    owner: i64,
) -> rusqlite::Result<Vec<Fetched>> {
    let mut select = transaction.prepare_cached(
        "SELECT m.id, m.deliveries, m.body FROM ready r JOIN messages m ON m.id = r.id \
         WHERE r.queue = ?1 AND r.step = ?2 ORDER BY r.id LIMIT ?3",
    )?;
    let mut hold = transaction.prepare_cached("INSERT INTO held (id, owner) VALUES (?1, ?2)")?;
    let mut rows = select.query(params![source.id, step, most as i64])?;
    let mut taken: Vec<Fetched> = Vec::new();
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        let body = row.get_ref(2)?.as_blob()?.to_vec();
        hold.execute(params![id, owner])?;
        taken.push(Fetched { id: id as u64, queue: source.index, deliveries: row.get(1)?, body });
    }
    drop(rows);
    if let Some(last) = taken.last() {
        transaction
            .prepare_cached("DELETE FROM ready WHERE queue = ?1 AND step = ?2 AND id <= ?3")?
            .execute(params![source.id, step, last.id as i64])?;
    }
    Ok(taken)
}

/// The messages of deliveries that a node still holds.
pub(crate) fn recall(
    connection: &Connection,
    sources: &[Source],
    ids: &[u64],
    owner: i64,
) -> rusqlite::Result<Vec<Fetched>> {
    let mut select = connection.prepare_cached(
        "SELECT m.queue, m.deliveries, m.body FROM held h JOIN messages m ON m.id = h.id \
         WHERE h.id = ?1 AND h.owner = ?2",
    )?;
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        let message = select.query_row(params![*id as i64, owner], |row| {
            let queue: i64 = row.get(0)?;
            let index = sources.iter().find(|source| source.id == queue).map_or(0, |source| source.index);
            let body = row.get_ref(2)?.as_blob()?.to_vec();
            Ok(Fetched { id: *id, queue: index, deliveries: row.get(1)?, body })
        });
        found.extend(message.optional()?);
    }
    Ok(found)
}

/// Ends a delivery; false if it was not this node's any more.
pub(crate) fn settle(transaction: &Connection, id: u64, how: Settlement, owner: i64) -> rusqlite::Result<bool> {
    let id = id as i64;
    if matches!(how, Settlement::Park { .. }) {
        // The lease goes on; when it is due is the engine's business.
        return Ok(true);
    }
    let held =
        transaction.prepare_cached("DELETE FROM held WHERE id = ?1 AND owner = ?2")?.execute(params![id, owner])?;
    if held == 0 {
        return Ok(false);
    }
    match how {
        Settlement::Ack | Settlement::Reject | Settlement::Park { .. } => {
            transaction.prepare_cached("DELETE FROM messages WHERE id = ?1")?.execute([id])?;
        }
        Settlement::Requeue | Settlement::Release => {
            if how == Settlement::Requeue {
                transaction
                    .prepare_cached("UPDATE messages SET deliveries = deliveries + 1 WHERE id = ?1")?
                    .execute([id])?;
            }
            transaction
                .prepare_cached(
                    "INSERT INTO ready (queue, step, id) SELECT queue, step, id FROM messages WHERE id = ?1",
                )?
                .execute([id])?;
        }
    }
    Ok(true)
}
