"""The settings of a Celery application whose broker or results are in a SQLite file."""

from __future__ import annotations

from typing import Any

from celery.backends.rpc import RPCBackend

from pyworker.compat.celery.amqp_settings import rpc_results
from pyworker.compat.celery.broker_settings import queue_names
from pyworker.compat.celery.result_settings import is_unpatched, redis_results
from pyworker.compat.celery.sqlite_backend import SQLiteBackend
from pyworker.exceptions import ImproperlyConfigured
from pyworker.transport import sqlite_settings
from pyworker.transport.amqp_config import AmqpResultConfig
from pyworker.transport.sqlite_file import check_file
from pyworker.transport.sqlite_kombu import Transport
from pyworker.worker.broker_options import retry_of
from pyworker.worker.config import RedisResultConfig
from pyworker.worker.sqlite_config import SqliteBrokerConfig, SqliteResultConfig


def is_sqlite(app: Any) -> bool:
    """Whether the broker of an application is a SQLite file."""
    return app.connection_for_read().get_transport_cls() is Transport


def sqlite_broker(app: Any, hostname: str) -> SqliteBrokerConfig:
    """Return the engine's broker settings.

    Raises:
        ImproperlyConfigured: one of the options is not supported, or the file is not usable.
    """
    connection = app.connection_for_read()
    if len(connection.alt) > 1:
        raise ImproperlyConfigured("broker_url: failover to alternate URLs makes no sense with a SQLite file")
    return sqlite_settings.sqlite_broker(
        app.conf,
        connection.as_uri(),
        connection.transport_options,
        hostname=hostname,
        queues=queue_names(app),
    )


def result_config(app: Any) -> RedisResultConfig | SqliteResultConfig | AmqpResultConfig | None:
    """Return the native result store's settings, ``None`` if children must write through Celery's backend."""
    backend = app.backend
    if type(backend) is RPCBackend:
        return rpc_results(app)
    if type(backend) is not SQLiteBackend:
        return redis_results(app)
    if not is_unpatched(backend):
        return None
    check_file(backend.address, setting="result_backend")
    return SqliteResultConfig(
        address=backend.address,
        expires_s=int(backend.expires) if backend.expires else None,
        retry=retry_of(backend.retry_policy),
    )
