//! Bindings and broadcasts, for kombu's virtual transport.

use rusqlite::{Connection, OptionalExtension, params};

/// A binding: routing key, pattern, queue.
pub type Binding = (String, String, String);

/// Binds a queue to an exchange; again does nothing.
pub(crate) fn bind(transaction: &Connection, exchange: &str, binding: &Binding) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO bindings (exchange, routing_key, pattern, queue) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![exchange, binding.0, binding.1, binding.2])?;
    Ok(())
}

/// Undoes a binding.
pub(crate) fn unbind(transaction: &Connection, exchange: &str, binding: &Binding) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "DELETE FROM bindings WHERE exchange = ?1 AND routing_key = ?2 AND pattern = ?3 AND queue = ?4",
        )?
        .execute(params![exchange, binding.0, binding.1, binding.2])?;
    Ok(())
}

/// What is bound to an exchange.
pub(crate) fn bindings(connection: &Connection, exchange: &str) -> rusqlite::Result<Vec<Binding>> {
    let mut select =
        connection.prepare_cached("SELECT routing_key, pattern, queue FROM bindings WHERE exchange = ?1")?;
    select.query_map([exchange], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
}

/// Broadcasts a message.
pub(crate) fn broadcast(transaction: &Connection, exchange: &str, body: &[u8], now_s: f64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT INTO fanout (exchange, at_s, body) VALUES (?1, ?2, ?3)")?
        .execute(params![exchange, now_s, body])?;
    Ok(())
}

/// The number of the last broadcast; who reads from here gets everything that comes after now.
pub(crate) fn last_broadcast(connection: &Connection) -> rusqlite::Result<i64> {
    let last = connection
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'fanout'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(last.unwrap_or(0))
}

/// Broadcasts after a number: their numbers, exchanges and bodies.
pub(crate) fn broadcasts_after(
    connection: &Connection,
    after: i64,
    most: usize,
) -> rusqlite::Result<Vec<(i64, String, Vec<u8>)>> {
    let mut select =
        connection.prepare_cached("SELECT id, exchange, body FROM fanout WHERE id > ?1 ORDER BY id LIMIT ?2")?;
    select
        .query_map(params![after, most as i64], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get_ref(2)?.as_blob()?.to_vec()))
        })?
        .collect()
}
