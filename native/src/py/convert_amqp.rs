//! From `pyworker.transport.amqp_config` to the core's configuration. Field names are equal on both sides.

use pyo3::prelude::*;
use pyo3::types::PyAny;

use super::convert::{field, retry_policy};
use super::errors::to_python;
use super::redis_settings;
use crate::config::amqp::{AmqpAddress, AmqpBrokerConfig, AmqpQueue, AmqpResultConfig, Declaration, Failover};
use crate::error::{Error, ErrorKind};

pub(super) fn amqp_address(object: &Bound<'_, PyAny>) -> PyResult<AmqpAddress> {
    Ok(AmqpAddress {
        host: field(object, "host")?,
        port: field(object, "port")?,
        virtual_host: field(object, "virtual_host")?,
        username: field(object, "username")?,
        password: field(object, "password")?,
        login_method: field(object, "login_method")?,
        connect_timeout_s: field(object, "connect_timeout_s")?,
        heartbeat_s: field(object, "heartbeat_s")?,
        connection_name: field(object, "connection_name")?,
        tls: redis_settings::tls(object)?,
        credential_source: redis_settings::credential_source(object)?,
    })
}

pub(super) fn declaration(object: &Bound<'_, PyAny>) -> PyResult<Declaration> {
    let kind: String = field(object, "kind")?;
    let arguments = field(object, "arguments")?;
    Ok(match kind.as_str() {
        "exchange" => Declaration::Exchange {
            name: field(object, "name")?,
            kind: field(object, "type")?,
            passive: field(object, "passive")?,
            durable: field(object, "durable")?,
            auto_delete: field(object, "auto_delete")?,
            arguments,
        },
        "queue" => Declaration::Queue {
            name: field(object, "name")?,
            passive: field(object, "passive")?,
            durable: field(object, "durable")?,
            exclusive: field(object, "exclusive")?,
            auto_delete: field(object, "auto_delete")?,
            arguments,
        },
        "queue_binding" => Declaration::QueueBinding {
            queue: field(object, "queue")?,
            exchange: field(object, "exchange")?,
            routing_key: field(object, "routing_key")?,
            arguments,
        },
        "exchange_binding" => Declaration::ExchangeBinding {
            destination: field(object, "destination")?,
            source: field(object, "source")?,
            routing_key: field(object, "routing_key")?,
            arguments,
        },
        other => return Err(to_python(Error::new(ErrorKind::Config, format!("declarations: no kind {other:?}")))),
    })
}

pub(super) fn queue(object: &Bound<'_, PyAny>) -> PyResult<AmqpQueue> {
    Ok(AmqpQueue {
        name: field(object, "name")?,
        no_ack: field(object, "no_ack")?,
        arguments: field(object, "arguments")?,
        delay_key: field(object, "delay_key")?,
    })
}

pub(super) fn each<T>(
    object: &Bound<'_, PyAny>,
    name: &str,
    convert: impl Fn(&Bound<'_, PyAny>) -> PyResult<T>,
) -> PyResult<Vec<T>> {
    object.getattr(name)?.try_iter()?.map(|item| convert(&item?)).collect()
}

pub(super) fn amqp_broker(object: &Bound<'_, PyAny>) -> PyResult<AmqpBrokerConfig> {
    let shuffle: bool = field(object, "shuffle")?;
    Ok(AmqpBrokerConfig {
        addresses: each(object, "addresses", amqp_address)?,
        failover: if shuffle { Failover::Shuffle } else { Failover::RoundRobin },
        queues: each(object, "queues", queue)?,
        declarations: each(object, "declarations", declaration)?,
        delay_declarations: each(object, "delay_declarations", declaration)?,
        retry: retry_policy(&object.getattr("retry")?)?,
        max_message_bytes: field(object, "max_message_bytes")?,
    })
}

pub(super) fn amqp_results(object: &Bound<'_, PyAny>) -> PyResult<AmqpResultConfig> {
    Ok(AmqpResultConfig {
        addresses: each(object, "addresses", amqp_address)?,
        retry: retry_policy(&object.getattr("retry")?)?,
    })
}
