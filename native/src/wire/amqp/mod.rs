//! AMQP 0-9-1 as RabbitMQ speaks it: frames, methods, field tables, basic properties.
//!
//! Everything is sans-I/O and bounded: a frame is refused by its declared size before anything is stored, a table by
//! its depth, and no length that the peer names is allocated before the bytes are there.

mod frame;
mod json;
mod method;
mod properties;
mod reader;
mod value;
mod write;

pub use frame::{BODY, FRAME_OVERHEAD, Frame, HEADER, HEARTBEAT, METHOD, decode_frame};
pub use json::{json_to_table, table_to_json};
pub use method::{Method, decode_method};
pub use properties::{ContentHeader, Properties, decode_header};
pub use reader::Reader;
pub use value::{FieldTable, FieldValue};
pub use write::{
    EMPTY_TABLE, HEARTBEAT_FRAME, MethodWriter, PROTOCOL_HEADER, Publish, QueueFlags, put_long_string,
    put_short_string, write_ack, write_cancel, write_cancel_ok, write_channel_close, write_channel_close_ok,
    write_channel_flow_ok, write_channel_open, write_close, write_close_ok, write_confirm_select, write_consume,
    write_exchange_bind, write_exchange_declare, write_nack, write_open, write_publish, write_qos, write_queue_bind,
    write_queue_declare, write_queue_delete, write_start_ok, write_tune_ok,
};

#[cfg(test)]
mod tests;
