//! The methods that a client sends, each appended to a buffer as a whole frame.

use super::frame::{BODY, FRAME_OVERHEAD, HEADER, METHOD, begin, finish};
use super::value::FieldTable;

/// Opens every connection.
pub const PROTOCOL_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
/// An encoded table without anything in it.
pub const EMPTY_TABLE: &[u8] = &[0; 4];
/// A sign of life.
pub const HEARTBEAT_FRAME: &[u8] = &[8, 0, 0, 0, 0, 0, 0, 0xCE];

/// Appends a short string; what is longer than AMQP allows is cut (callers check what matters).
pub fn put_short_string(out: &mut Vec<u8>, text: &[u8]) {
    let text = &text[..text.len().min(255)];
    out.push(text.len() as u8);
    out.extend_from_slice(text);
}

/// Appends a long string.
pub fn put_long_string(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&(text.len() as u32).to_be_bytes());
    out.extend_from_slice(text);
}

/// A method frame being written; ends with `done`.
#[derive(Debug)]
pub struct MethodWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> MethodWriter<'a> {
    /// Begins a method.
    pub fn new(out: &'a mut Vec<u8>, channel: u16, class: u16, method: u16) -> Self {
        let start = begin(out, METHOD, channel);
        out.extend_from_slice(&class.to_be_bytes());
        out.extend_from_slice(&method.to_be_bytes());
        Self { out, start }
    }

    fn u8(self, value: u8) -> Self {
        self.out.push(value);
        self
    }

    fn u16(self, value: u16) -> Self {
        self.out.extend_from_slice(&value.to_be_bytes());
        self
    }

    fn u32(self, value: u32) -> Self {
        self.out.extend_from_slice(&value.to_be_bytes());
        self
    }

    fn u64(self, value: u64) -> Self {
        self.out.extend_from_slice(&value.to_be_bytes());
        self
    }

    fn short(self, text: &[u8]) -> Self {
        put_short_string(self.out, text);
        self
    }

    fn long(self, text: &[u8]) -> Self {
        put_long_string(self.out, text);
        self
    }

    /// A table that is encoded already, its size included.
    fn table(self, table: &[u8]) -> Self {
        self.out.extend_from_slice(table);
        self
    }

    fn done(self) {
        finish(self.out, self.start);
    }
}

/// `connection.start-ok`
pub fn write_start_ok(out: &mut Vec<u8>, properties: &FieldTable, mechanism: &str, response: &[u8]) {
    let mut table = Vec::new();
    properties.encode(&mut table);
    MethodWriter::new(out, 0, 10, 11).table(&table).short(mechanism.as_bytes()).long(response).short(b"en_US").done();
}

/// `connection.tune-ok`
pub fn write_tune_ok(out: &mut Vec<u8>, channel_max: u16, frame_max: u32, heartbeat_s: u16) {
    MethodWriter::new(out, 0, 10, 31).u16(channel_max).u32(frame_max).u16(heartbeat_s).done();
}

/// `connection.open`
pub fn write_open(out: &mut Vec<u8>, virtual_host: &str) {
    MethodWriter::new(out, 0, 10, 40).short(virtual_host.as_bytes()).short(b"").u8(0).done();
}

/// `connection.close`
pub fn write_close(out: &mut Vec<u8>, code: u16, text: &str) {
    MethodWriter::new(out, 0, 10, 50).u16(code).short(text.as_bytes()).u16(0).u16(0).done();
}

/// `connection.close-ok`
pub fn write_close_ok(out: &mut Vec<u8>) {
    MethodWriter::new(out, 0, 10, 51).done();
}

/// `channel.open`
pub fn write_channel_open(out: &mut Vec<u8>, channel: u16) {
    MethodWriter::new(out, channel, 20, 10).short(b"").done();
}

/// `channel.close`
pub fn write_channel_close(out: &mut Vec<u8>, channel: u16) {
    MethodWriter::new(out, channel, 20, 40).u16(200).short(b"").u16(0).u16(0).done();
}

/// `channel.close-ok`
pub fn write_channel_close_ok(out: &mut Vec<u8>, channel: u16) {
    MethodWriter::new(out, channel, 20, 41).done();
}

/// `channel.flow-ok`
pub fn write_channel_flow_ok(out: &mut Vec<u8>, channel: u16, active: bool) {
    MethodWriter::new(out, channel, 20, 21).u8(u8::from(active)).done();
}

/// `confirm.select`
pub fn write_confirm_select(out: &mut Vec<u8>, channel: u16) {
    MethodWriter::new(out, channel, 85, 10).u8(0).done();
}

/// `exchange.declare`
pub fn write_exchange_declare(
    out: &mut Vec<u8>,
    channel: u16,
    name: &str,
    kind: &str,
    flags: QueueFlags,
    arguments: &[u8],
) {
    let bits = u8::from(flags.passive) | u8::from(flags.durable) << 1 | u8::from(flags.auto_delete) << 2;
    MethodWriter::new(out, channel, 40, 10)
        .u16(0)
        .short(name.as_bytes())
        .short(kind.as_bytes())
        .u8(bits)
        .table(arguments)
        .done();
}

/// `exchange.bind`
pub fn write_exchange_bind(
    out: &mut Vec<u8>,
    channel: u16,
    destination: &str,
    source: &str,
    routing_key: &str,
    arguments: &[u8],
) {
    MethodWriter::new(out, channel, 40, 30)
        .u16(0)
        .short(destination.as_bytes())
        .short(source.as_bytes())
        .short(routing_key.as_bytes())
        .u8(0)
        .table(arguments)
        .done();
}

/// How an exchange or queue is declared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueFlags {
    /// Only ask whether it is there.
    pub passive: bool,
    /// Survives a restart.
    pub durable: bool,
    /// Of this connection alone.
    pub exclusive: bool,
    /// Goes with its last user.
    pub auto_delete: bool,
}

/// `queue.declare`
pub fn write_queue_declare(out: &mut Vec<u8>, channel: u16, name: &str, flags: QueueFlags, arguments: &[u8]) {
    let bits = u8::from(flags.passive)
        | u8::from(flags.durable) << 1
        | u8::from(flags.exclusive) << 2
        | u8::from(flags.auto_delete) << 3;
    MethodWriter::new(out, channel, 50, 10).u16(0).short(name.as_bytes()).u8(bits).table(arguments).done();
}

/// `queue.bind`
pub fn write_queue_bind(
    out: &mut Vec<u8>,
    channel: u16,
    queue: &str,
    exchange: &str,
    routing_key: &str,
    arguments: &[u8],
) {
    MethodWriter::new(out, channel, 50, 20)
        .u16(0)
        .short(queue.as_bytes())
        .short(exchange.as_bytes())
        .short(routing_key.as_bytes())
        .u8(0)
        .table(arguments)
        .done();
}

/// `queue.delete`
pub fn write_queue_delete(out: &mut Vec<u8>, channel: u16, queue: &str) {
    MethodWriter::new(out, channel, 50, 40).u16(0).short(queue.as_bytes()).u8(0).done();
}

/// `basic.qos` for the consumers that follow on this channel; 0 lifts the limit.
pub fn write_qos(out: &mut Vec<u8>, channel: u16, prefetch: u16) {
    MethodWriter::new(out, channel, 60, 10).u32(0).u16(prefetch).u8(0).done();
}

/// `basic.consume`
pub fn write_consume(out: &mut Vec<u8>, channel: u16, queue: &str, tag: &str, no_ack: bool, arguments: &[u8]) {
    MethodWriter::new(out, channel, 60, 20)
        .u16(0)
        .short(queue.as_bytes())
        .short(tag.as_bytes())
        .u8(u8::from(no_ack) << 1)
        .table(arguments)
        .done();
}

/// `basic.cancel`
pub fn write_cancel(out: &mut Vec<u8>, channel: u16, tag: &str) {
    MethodWriter::new(out, channel, 60, 30).short(tag.as_bytes()).u8(0).done();
}

/// `basic.cancel-ok`, the answer to a server's cancel.
pub fn write_cancel_ok(out: &mut Vec<u8>, channel: u16, tag: &[u8]) {
    MethodWriter::new(out, channel, 60, 31).short(tag).done();
}

/// `basic.ack`
pub fn write_ack(out: &mut Vec<u8>, channel: u16, delivery: u64, multiple: bool) {
    MethodWriter::new(out, channel, 60, 80).u64(delivery).u8(u8::from(multiple)).done();
}

/// `basic.nack`
pub fn write_nack(out: &mut Vec<u8>, channel: u16, delivery: u64, multiple: bool, requeue: bool) {
    MethodWriter::new(out, channel, 60, 120).u64(delivery).u8(u8::from(multiple) | u8::from(requeue) << 1).done();
}

/// A message to publish; `properties` are encoded flags and values.
#[derive(Debug, Clone, Copy)]
pub struct Publish<'a> {
    /// The exchange.
    pub exchange: &'a str,
    /// The key.
    pub routing_key: &'a str,
    /// Whether a message that reaches no queue comes back.
    pub mandatory: bool,
    /// Flags and properties.
    pub properties: &'a [u8],
    /// The body.
    pub body: &'a [u8],
}

/// `basic.publish` with its content, the body in as many frames as `frame_max` asks for.
pub fn write_publish(out: &mut Vec<u8>, channel: u16, frame_max: u32, publish: &Publish<'_>) {
    MethodWriter::new(out, channel, 60, 40)
        .u16(0)
        .short(publish.exchange.as_bytes())
        .short(publish.routing_key.as_bytes())
        .u8(u8::from(publish.mandatory))
        .done();
    let start = begin(out, HEADER, channel);
    out.extend_from_slice(&60_u16.to_be_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&(publish.body.len() as u64).to_be_bytes());
    out.extend_from_slice(publish.properties);
    finish(out, start);
    let piece_max =
        if frame_max == 0 { usize::MAX } else { (frame_max as usize).saturating_sub(FRAME_OVERHEAD).max(1) };
    for piece in publish.body.chunks(piece_max) {
        let start = begin(out, BODY, channel);
        out.extend_from_slice(piece);
        finish(out, start);
    }
}
