//! Declarations as frames.

use crate::config::amqp::Declaration;
use crate::error::Result;
use crate::wire::amqp::{
    EMPTY_TABLE, QueueFlags, json_to_table, write_exchange_bind, write_exchange_declare, write_queue_bind,
    write_queue_declare,
};

/// A JSON object as an encoded table.
///
/// # Errors
///
/// `Malformed` for what has no form in a table.
pub(crate) fn table_of(arguments_json: &[u8]) -> Result<Vec<u8>> {
    if arguments_json.is_empty() {
        return Ok(EMPTY_TABLE.to_vec());
    }
    let mut table = Vec::new();
    json_to_table(arguments_json, &mut table)?;
    Ok(table)
}

/// Appends one declaration; the server answers each with one method.
pub(crate) fn write_declaration(out: &mut Vec<u8>, channel: u16, declaration: &Declaration) -> Result<()> {
    match declaration {
        Declaration::Exchange { name, kind, passive, durable, auto_delete, arguments } => {
            let flags =
                QueueFlags { passive: *passive, durable: *durable, exclusive: false, auto_delete: *auto_delete };
            write_exchange_declare(out, channel, name, kind, flags, &table_of(arguments)?);
        }
        Declaration::Queue { name, passive, durable, exclusive, auto_delete, arguments } => {
            let flags =
                QueueFlags { passive: *passive, durable: *durable, exclusive: *exclusive, auto_delete: *auto_delete };
            write_queue_declare(out, channel, name, flags, &table_of(arguments)?);
        }
        Declaration::QueueBinding { queue, exchange, routing_key, arguments } => {
            write_queue_bind(out, channel, queue, exchange, routing_key, &table_of(arguments)?);
        }
        Declaration::ExchangeBinding { destination, source, routing_key, arguments } => {
            write_exchange_bind(out, channel, destination, source, routing_key, &table_of(arguments)?);
        }
    }
    Ok(())
}

/// What is declared, for errors.
pub(crate) fn subject(declaration: &Declaration) -> String {
    match declaration {
        Declaration::Exchange { name, .. } => format!("declaring exchange {name:?}"),
        Declaration::Queue { name, .. } => format!("declaring queue {name:?}"),
        Declaration::QueueBinding { queue, exchange, .. } => {
            format!("binding queue {queue:?} to exchange {exchange:?}")
        }
        Declaration::ExchangeBinding { destination, source, .. } => {
            format!("binding exchange {destination:?} to exchange {source:?}")
        }
    }
}
