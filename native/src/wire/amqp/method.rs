//! The methods that a server sends.

use super::reader::Reader;
use super::value::FieldTable;
use crate::error::{Error, ErrorKind, Result};

/// A method from the server; what no caller looks at is left out.
#[derive(Debug, Clone, PartialEq)]
pub enum Method<'a> {
    /// `connection.start`
    Start {
        /// What the server says about itself.
        properties: FieldTable,
        /// Names of mechanisms, separated by spaces.
        mechanisms: &'a [u8],
    },
    /// `connection.secure`
    Secure,
    /// `connection.tune`
    Tune {
        /// Most channels; 0 is no limit.
        channel_max: u16,
        /// Largest frame; 0 is no limit.
        frame_max: u32,
        /// Seconds; 0 is off.
        heartbeat_s: u16,
    },
    /// `connection.open-ok`
    OpenOk,
    /// `connection.close`
    Close(Farewell),
    /// `connection.close-ok`
    CloseOk,
    /// `connection.blocked`
    Blocked(String),
    /// `connection.unblocked`
    Unblocked,
    /// `channel.open-ok`
    ChannelOpenOk,
    /// `channel.flow`
    ChannelFlow(bool),
    /// `channel.close`
    ChannelClose(Farewell),
    /// `channel.close-ok`
    ChannelCloseOk,
    /// `exchange.declare-ok`, `exchange.bind-ok`, `queue.bind-ok`, `queue.delete-ok`, `queue.purge-ok`
    Done,
    /// `queue.declare-ok`
    QueueDeclareOk {
        /// The queue's name, made up by the server if none was given.
        name: &'a [u8],
        /// Messages ready.
        messages: u32,
    },
    /// `basic.qos-ok`
    QosOk,
    /// `basic.consume-ok`
    ConsumeOk {
        /// The consumer.
        tag: &'a [u8],
    },
    /// `basic.cancel`: the server ended a consumer.
    Cancel {
        /// The consumer.
        tag: &'a [u8],
    },
    /// `basic.cancel-ok`
    CancelOk {
        /// The consumer.
        tag: &'a [u8],
    },
    /// `basic.return`: a mandatory message that no queue took; content follows.
    Return {
        /// Why, as a number.
        code: u16,
        /// Why.
        text: &'a [u8],
        /// Where it was published.
        exchange: &'a [u8],
        /// With which key.
        routing_key: &'a [u8],
    },
    /// `basic.deliver`; content follows.
    Deliver {
        /// The consumer.
        tag: &'a [u8],
        /// The delivery.
        delivery: u64,
        /// Whether it was handed out before.
        redelivered: bool,
        /// Where it was published.
        exchange: &'a [u8],
        /// With which key.
        routing_key: &'a [u8],
    },
    /// `basic.ack`: a confirmation.
    Ack {
        /// The publish.
        delivery: u64,
        /// And all before it.
        multiple: bool,
    },
    /// `basic.nack`: a publish that the server could not take.
    Nack {
        /// The publish.
        delivery: u64,
        /// And all before it.
        multiple: bool,
    },
    /// `confirm.select-ok`
    ConfirmOk,
}

/// Why a connection or channel is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Farewell {
    /// AMQP's reply code.
    pub code: u16,
    /// The server's words.
    pub text: String,
}

impl Farewell {
    /// The error that this is for whoever used the channel or connection.
    #[must_use]
    pub fn to_error(&self) -> Error {
        let kind = match self.code {
            // connection-forced, resource-error, internal-error: the server will be well again.
            320 | 506 | 541 => ErrorKind::Connection,
            311 => ErrorKind::TooLarge,
            403 => ErrorKind::Authentication,
            402 | 404..=406 | 530 | 540 => ErrorKind::ServerRefused,
            _ => ErrorKind::Protocol,
        };
        Error::new(kind, format!("({}) {}", self.code, self.text))
    }
}

/// Reads a method frame's payload.
///
/// # Errors
///
/// `Protocol` for a method that no server sends to a client, and for one that is cut short.
pub fn decode_method(payload: &[u8]) -> Result<Method<'_>> {
    let mut reader = Reader::new(payload);
    let (class, method) = (reader.u16()?, reader.u16()?);
    match class {
        10 => connection_method(method, &mut reader),
        20 => channel_method(method, &mut reader),
        40 if matches!(method, 11 | 21 | 31 | 51) => Ok(Method::Done),
        50 if method == 11 => Ok(Method::QueueDeclareOk { name: reader.short_string()?, messages: reader.u32()? }),
        50 if matches!(method, 21 | 31 | 41 | 51) => Ok(Method::Done),
        60 => basic_method(method, &mut reader),
        85 if method == 11 => Ok(Method::ConfirmOk),
        _ => unknown(class, method),
    }
}

fn unknown<T>(class: u16, method: u16) -> Result<T> {
    Err(Error::new(ErrorKind::Protocol, format!("amqp: unknown method {method} of class {class}")))
}

fn farewell(reader: &mut Reader<'_>) -> Result<Farewell> {
    Ok(Farewell { code: reader.u16()?, text: reader.short_text()? })
}

fn connection_method<'a>(method: u16, reader: &mut Reader<'a>) -> Result<Method<'a>> {
    Ok(match method {
        10 => {
            reader.u16()?;
            Method::Start { properties: FieldTable::decode(reader)?, mechanisms: reader.long_string()? }
        }
        20 => Method::Secure,
        30 => Method::Tune { channel_max: reader.u16()?, frame_max: reader.u32()?, heartbeat_s: reader.u16()? },
        41 => Method::OpenOk,
        50 => Method::Close(farewell(reader)?),
        51 => Method::CloseOk,
        60 => Method::Blocked(reader.short_text()?),
        61 => Method::Unblocked,
        _ => return unknown(10, method),
    })
}

fn channel_method<'a>(method: u16, reader: &mut Reader<'a>) -> Result<Method<'a>> {
    Ok(match method {
        11 => Method::ChannelOpenOk,
        20 => Method::ChannelFlow(reader.u8()? & 1 != 0),
        21 => Method::Done,
        40 => Method::ChannelClose(farewell(reader)?),
        41 => Method::ChannelCloseOk,
        _ => return unknown(20, method),
    })
}

fn basic_method<'a>(method: u16, reader: &mut Reader<'a>) -> Result<Method<'a>> {
    Ok(match method {
        11 => Method::QosOk,
        21 => Method::ConsumeOk { tag: reader.short_string()? },
        30 => Method::Cancel { tag: reader.short_string()? },
        31 => Method::CancelOk { tag: reader.short_string()? },
        50 => Method::Return {
            code: reader.u16()?,
            text: reader.short_string()?,
            exchange: reader.short_string()?,
            routing_key: reader.short_string()?,
        },
        60 => Method::Deliver {
            tag: reader.short_string()?,
            delivery: reader.u64()?,
            redelivered: reader.u8()? & 1 != 0,
            exchange: reader.short_string()?,
            routing_key: reader.short_string()?,
        },
        80 => Method::Ack { delivery: reader.u64()?, multiple: reader.u8()? & 1 != 0 },
        120 => Method::Nack { delivery: reader.u64()?, multiple: reader.u8()? & 1 != 0 },
        _ => return unknown(60, method),
    })
}
