//! From `pyworker.worker.config` to the core's configuration. Field names are equal on both sides.

use pyo3::conversion::FromPyObjectOwned;
use pyo3::prelude::*;
use pyo3::types::PyAny;

use super::convert_amqp::{amqp_broker, amqp_results};
use super::errors::to_python;
use super::kombu;
use super::redis_settings;
use super::sqlite;
use crate::config::{
    BrokerConfig, EngineConfig, PoolConfig, PrefetchConfig, QueueOrder, RedisAddress, RedisBrokerConfig,
    RedisResultConfig, ResultConfig, RetryPolicy, TaskConfig,
};
use crate::error::{Error, ErrorKind};

/// Reads one attribute; a wrong type is a configuration error that names it.
pub(super) fn field<'py, T>(object: &Bound<'py, PyAny>, name: &str) -> PyResult<T>
where
    T: FromPyObjectOwned<'py>,
{
    let value = object.getattr(name)?;
    value.extract::<T>().map_err(|error| {
        let error: PyErr = error.into();
        to_python(Error::new(ErrorKind::Config, format!("{name}: {}", error.value(object.py()))))
    })
}

pub(super) fn redis_address(object: &Bound<'_, PyAny>) -> PyResult<RedisAddress> {
    Ok(RedisAddress {
        host: field(object, "host")?,
        port: field(object, "port")?,
        unix_path: field(object, "unix_path")?,
        database: field(object, "database")?,
        username: field(object, "username")?,
        password: field(object, "password")?,
        client_name: field(object, "client_name")?,
        connect_timeout_s: field(object, "connect_timeout_s")?,
        socket_timeout_s: field(object, "socket_timeout_s")?,
        keepalive: field(object, "keepalive")?,
        health_check_interval_s: field(object, "health_check_interval_s")?,
        tls: redis_settings::tls(object)?,
        sentinel: redis_settings::sentinel(object)?,
        credential_source: redis_settings::credential_source(object)?,
        alternates: redis_settings::alternates(object)?,
    })
}

pub(super) fn retry_policy(object: &Bound<'_, PyAny>) -> PyResult<RetryPolicy> {
    Ok(RetryPolicy {
        retry: field(object, "retry")?,
        retry_on_startup: field(object, "retry_on_startup")?,
        max_retries: field(object, "max_retries")?,
        interval_start_s: field(object, "interval_start_s")?,
        interval_step_s: field(object, "interval_step_s")?,
        interval_max_s: field(object, "interval_max_s")?,
    })
}

pub(super) fn queue_order(object: &Bound<'_, PyAny>) -> PyResult<QueueOrder> {
    let order: String = object.getattr("queue_order")?.getattr("value")?.extract()?;
    match order.as_str() {
        "round_robin" => Ok(QueueOrder::RoundRobin),
        "priority" => Ok(QueueOrder::Priority),
        other => Err(to_python(Error::new(ErrorKind::Config, format!("queue_order: unknown order {other:?}")))),
    }
}

fn redis_broker(object: &Bound<'_, PyAny>) -> PyResult<RedisBrokerConfig> {
    Ok(RedisBrokerConfig {
        address: redis_address(&object.getattr("address")?)?,
        queues: field(object, "queues")?,
        priority_steps: field(object, "priority_steps")?,
        separator: field(object, "separator")?,
        global_keyprefix: field(object, "global_keyprefix")?,
        queue_order: queue_order(object)?,
        visibility_timeout_s: field(object, "visibility_timeout_s")?,
        unacked_key: field(object, "unacked_key")?,
        unacked_index_key: field(object, "unacked_index_key")?,
        owner: field(object, "owner")?,
        retry: retry_policy(&object.getattr("retry")?)?,
        max_message_bytes: field(object, "max_message_bytes")?,
    })
}

fn broker(object: &Bound<'_, PyAny>) -> PyResult<BrokerConfig> {
    let kind: String = field(object, "kind")?;
    match kind.as_str() {
        "amqp" => amqp_broker(object).map(BrokerConfig::Amqp),
        "kombu" => kombu::broker(object).map(BrokerConfig::Kombu),
        "sqlite" => sqlite::broker(object).map(BrokerConfig::Sqlite),
        _ => redis_broker(object).map(|redis| BrokerConfig::Redis(Box::new(redis))),
    }
}

fn task(object: &Bound<'_, PyAny>) -> PyResult<TaskConfig> {
    Ok(TaskConfig {
        name: field(object, "name")?,
        acks_late: field(object, "acks_late")?,
        acks_on_failure: field(object, "acks_on_failure")?,
        soft_time_limit_s: field(object, "soft_time_limit_s")?,
        time_limit_s: field(object, "time_limit_s")?,
        rate_limit_per_s: field(object, "rate_limit_per_s")?,
        parent_lane: field(object, "parent_lane")?,
        watched: field(object, "watched")?,
    })
}

/// Whether a broker's or store's configuration is that of a SQLite file: its address is a path.
fn is_sqlite(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    object.getattr("address")?.hasattr("path")
}

pub(super) fn engine_config(object: &Bound<'_, PyAny>) -> PyResult<EngineConfig> {
    let results = object.getattr("results")?;
    let results = if results.is_none() {
        None
    } else if results.hasattr("addresses")? {
        Some(ResultConfig::Amqp(amqp_results(&results)?))
    } else if is_sqlite(&results)? {
        Some(ResultConfig::Sqlite(sqlite::results(&results)?))
    } else {
        Some(ResultConfig::Redis(Box::new(RedisResultConfig {
            address: redis_address(&results.getattr("address")?)?,
            expires_s: field(&results, "expires_s")?,
            retry: retry_policy(&results.getattr("retry")?)?,
        })))
    };
    let pool = object.getattr("pool")?;
    let prefetch = object.getattr("prefetch")?;
    Ok(EngineConfig {
        hostname: field(object, "hostname")?,
        broker: broker(&object.getattr("broker")?)?,
        results,
        tasks: object.getattr("tasks")?.try_iter()?.map(|item| task(&item?)).collect::<PyResult<_>>()?,
        pool: PoolConfig {
            concurrency: field(&pool, "concurrency")?,
            max_tasks_per_child: field(&pool, "max_tasks_per_child")?,
            up_timeout_s: field(&pool, "up_timeout_s")?,
            link_capacity_bytes: field(&pool, "link_capacity_bytes")?,
        },
        prefetch: PrefetchConfig {
            multiplier: field(&prefetch, "multiplier")?,
            strict: field(&prefetch, "strict")?,
            window_s: field(&prefetch, "window_s")?,
            reduces_after_loss: field(&prefetch, "reduces_after_loss")?,
            max_reserved_bytes: field(&prefetch, "max_reserved_bytes")?,
        },
        max_deliveries: field(object, "max_deliveries")?,
        notice_received: field(object, "notice_received")?,
        eta_task_limit: field(object, "eta_task_limit")?,
    })
}
