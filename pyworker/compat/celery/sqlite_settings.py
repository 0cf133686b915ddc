"""The settings of a Celery application whose broker or results are in a SQLite file."""

from __future__ import annotations

import os
import secrets
from typing import Any

from pyworker.compat.celery.broker_settings import _queue_names, _queue_order, retry_policy
from pyworker.compat.celery.result_settings import is_unpatched, redis_results
from pyworker.compat.celery.sqlite_backend import SQLiteBackend
from pyworker.exceptions import ImproperlyConfigured
from pyworker.transport.sqlite_file import PRIORITY_STEPS, open_file
from pyworker.transport.sqlite_kombu import Transport
from pyworker.transport.sqlite_url import parse_sqlite_url
from pyworker.worker.config import RedisResultConfig, RetryPolicy
from pyworker.worker.sqlite_config import SqliteBrokerConfig, SqliteResultConfig

_VISIBILITY_TIMEOUT_S = 3600.0
#: Celery's policy for results: 20 times, a second apart.
_RESULT_RETRY = RetryPolicy(max_retries=20, interval_start_s=0.0, interval_step_s=1.0, interval_max_s=1.0)


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
    options = connection.transport_options
    address = parse_sqlite_url(connection.as_uri(), setting="broker_url", options=options)
    steps = tuple(int(step) for step in options.get("priority_steps") or PRIORITY_STEPS)
    # Says now what is wrong with the file, before anything is started.
    open_file(address, setting="broker_url", priority_steps=steps).close()
    order, queues = _queue_order(options.get("queue_order_strategy", "round_robin"), _queue_names(app))
    return SqliteBrokerConfig(
        address=address,
        queues=queues,
        owner=f"{hostname}.{os.getpid()}.{secrets.token_hex(4)}",
        priority_steps=steps,
        queue_order=order,
        visibility_timeout_s=float(options.get("visibility_timeout") or _VISIBILITY_TIMEOUT_S),
        retry=retry_policy(app.conf),
    )


def result_config(app: Any) -> RedisResultConfig | SqliteResultConfig | None:
    """Return the native result store's settings, ``None`` if children must write through Celery's backend."""
    backend = app.backend
    if type(backend) is not SQLiteBackend:
        return redis_results(app)
    if not is_unpatched(backend):
        return None
    backend.file.close()
    return SqliteResultConfig(
        address=backend.address, expires_s=int(backend.expires) if backend.expires else None, retry=_RESULT_RETRY
    )
