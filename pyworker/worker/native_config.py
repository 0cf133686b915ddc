"""The engine's configuration from the settings of our own app."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

from pyworker.backends.redis import RedisBackend
from pyworker.backends.rpc import RpcBackend
from pyworker.backends.sqlite import SqliteBackend
from pyworker.exceptions import ImproperlyConfigured
from pyworker.routing import Router, direct_queue
from pyworker.transport.amqp_config import AmqpResultConfig
from pyworker.transport.amqp_url import is_amqp
from pyworker.transport.native_paths import loadable, path_of_settings
from pyworker.transport.redis_settings import broker_address
from pyworker.transport.sqlite_settings import sqlite_broker
from pyworker.transport.sqlite_url import is_sqlite_url
from pyworker.worker.autoscale import bounds
from pyworker.worker.broadcasts import inbox_of
from pyworker.worker.broker_options import connection_retry, owner_name, reading_order, retry_of
from pyworker.worker.config import (
    EngineConfig,
    PoolConfig,
    PrefetchConfig,
    RedisBrokerConfig,
    RedisResultConfig,
    RetryPolicy,
    ShutdownConfig,
    TaskConfig,
    prefetch_window_s,
)
from pyworker.worker.native_amqp import amqp_broker
from pyworker.worker.native_kombu import kombu_broker
from pyworker.worker.sqlite_config import SqliteBrokerConfig, SqliteResultConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyworker.app import Celery
    from pyworker.transport.amqp_config import AmqpBrokerConfig
    from pyworker.worker.kombu_config import KombuBrokerConfig
    from pyworker.worker.protocol import TaskSpec, WorkerOptions

_VISIBILITY_TIMEOUT_S = 3600.0
_PRIORITY_STEPS = (0, 3, 6, 9)
_SEPARATOR = "\x06\x16"
_UNITS_S = {"s": 1, "m": 60, "h": 3600}
_POOLS = ("prefork", "processes", "solo")


def engine_config(
    app: Celery, hostname: str, options: WorkerOptions, specs: Sequence[TaskSpec], notices_receipts: bool
) -> EngineConfig:
    """Return the configuration.

    Raises:
        ImproperlyConfigured: a setting is unusable; names it.
    """
    conf = app.conf
    broker = _broker(app, hostname, options)
    return EngineConfig(
        hostname=hostname,
        broker=broker,
        results=_results(app),
        tasks=tuple(
            TaskConfig(
                name=spec.name,
                acks_late=spec.acks_late,
                acks_on_failure=spec.acks_on_failure,
                soft_time_limit_s=spec.soft_time_limit_s,
                time_limit_s=spec.time_limit_s,
                rate_limit_per_s=spec.rate_limit_per_s,
            )
            for spec in specs
        ),
        pool=PoolConfig(
            concurrency=concurrency(app, options),
            max_tasks_per_child=options.max_tasks_per_child or conf.worker_max_tasks_per_child,
            max_memory_per_child_kib=options.max_memory_per_child_kib or conf.worker_max_memory_per_child,
            up_timeout_s=conf.worker_proc_alive_timeout,
        ),
        prefetch=PrefetchConfig(
            multiplier=_multiplier(app, options),
            strict=bool(options.disable_prefetch or conf.worker_disable_prefetch),
            reduces_after_loss=bool(conf.worker_enable_prefetch_count_reduction),
            window_s=prefetch_window_s(broker.kind),
        ),
        notice_received=notices_receipts,
        eta_task_limit=conf.worker_eta_task_limit,
        shutdown=ShutdownConfig(
            soft_timeout_s=float(conf.worker_soft_shutdown_timeout or 0.0),
            soft_on_idle=bool(conf.worker_enable_soft_shutdown_on_idle),
        ),
    )


def _multiplier(app: Celery, options: WorkerOptions) -> int:
    given = options.prefetch_multiplier
    return int(app.conf.worker_prefetch_multiplier if given is None else given)


def concurrency(app: Celery, options: WorkerOptions) -> int:
    """Return the number of children; with ``--autoscale`` the pool begins at its lower bound."""
    if options.autoscale:
        return max(autoscale_bounds(options)[1], 1)
    return int(options.concurrency or app.conf.worker_concurrency or os.cpu_count() or 1)


def autoscale_bounds(options: WorkerOptions) -> tuple[int, int]:
    """Return the bounds of ``--autoscale``.

    Raises:
        ImproperlyConfigured: they cannot be read.
    """
    try:
        return bounds(options.autoscale or "")
    except ValueError as error:
        raise ImproperlyConfigured(f"--autoscale={options.autoscale}: {error}") from None


def queue_names(app: Celery, options: WorkerOptions, hostname: str | None = None) -> tuple[str, ...]:
    """Return the queues to consume from.

    Args:
        app, options: what names them.
        hostname: the node's name, whose own queue is among them if ``worker_direct`` is set.

    Raises:
        ImproperlyConfigured: a queue that is asked for does not exist and must not be made.
    """
    router = Router(app.conf)
    names = [router.queue(name).name for name in options.queues] if options.queues else router.names()
    if hostname and broadcast_names(app, options):
        # Celery's clients do not declare a broadcast's exchange; kombu then puts a copy into each listener's own list.
        names = [*names, inbox_of(hostname)]
    if hostname and app.conf.worker_direct:
        names = [*names, direct_queue(hostname).name]
    return tuple(dict.fromkeys(name for name in names if name not in options.exclude_queues))


def is_broadcast(app: Celery, name: str) -> bool:
    """Whether a queue gets broadcasts that the broker keeps for nobody (:mod:`pyworker.worker.broadcasts`)."""
    conf = app.conf
    url = conf.broker_read_url or conf.broker_url
    if Router(conf).queue(name).exchange_type != "fanout" or is_amqp(url):
        return False
    # kombu's transports keep a queue for each worker themselves.
    return path_of_settings(conf, url).is_native


def broadcast_names(app: Celery, options: WorkerOptions) -> list[str]:
    """Return the names of the broadcast queues among those to consume from."""
    names = options.queues or Router(app.conf).names()
    return [name for name in names if name not in options.exclude_queues and is_broadcast(app, name)]


def per_second(limit: Any, task_name: str) -> float | None:
    """Return a rate limit (``10``, ``"10/s"``, ``"100/m"``, ``"5/h"``) per second, None for none.

    Raises:
        ImproperlyConfigured: it is none of these.
    """
    if not limit:
        return None
    if isinstance(limit, (int, float)):
        return float(limit)
    count, _, unit = str(limit).partition("/")
    try:
        return float(count) / _UNITS_S[unit or "s"] or None
    except (KeyError, ValueError) as error:
        raise ImproperlyConfigured(f"rate_limit of {task_name}: {limit!r} is no rate such as '10/m'") from error


def require_pool(app: Celery, options: WorkerOptions) -> None:
    """Refuse pools that are not there.

    Raises:
        ImproperlyConfigured: the setting names one.
    """
    name = options.pool if options.pool != "prefork" else app.conf.worker_pool
    if name not in _POOLS:
        raise ImproperlyConfigured(f"worker_pool: the pool {name!r} is not supported yet; use prefork or solo")


def _broker(
    app: Celery, hostname: str, options: WorkerOptions
) -> RedisBrokerConfig | AmqpBrokerConfig | SqliteBrokerConfig | KombuBrokerConfig:
    conf = app.conf
    url = conf.broker_read_url or conf.broker_url
    if not url:
        raise ImproperlyConfigured("broker_url is not set")
    path = path_of_settings(conf, url)
    if not path.is_native:
        loadable(app.connection_for_read)
        count = concurrency(app, options) * _multiplier(app, options)
        return kombu_broker(app, path.reason, queue_names(app, options, hostname), count, connection_retry(conf))
    if is_sqlite_url(url):
        options_given = dict(conf.broker_transport_options or {})
        return sqlite_broker(conf, url, options_given, hostname=hostname, queues=queue_names(app, options, hostname))
    if is_amqp(url):
        return amqp_broker(app, url, hostname, queue_names(app, options, hostname), connection_retry(conf))
    transport: dict[str, Any] = dict(conf.broker_transport_options or {})
    order, queues = reading_order(
        transport.get("queue_order_strategy", "round_robin"), queue_names(app, options, hostname)
    )
    return RedisBrokerConfig(
        address=broker_address(conf, url),
        queues=queues,
        owner=owner_name(hostname),
        priority_steps=tuple(int(step) for step in transport.get("priority_steps") or _PRIORITY_STEPS),
        separator=str(transport.get("sep") or _SEPARATOR),
        global_keyprefix=str(transport.get("global_keyprefix") or ""),
        queue_order=order,
        visibility_timeout_s=float(transport.get("visibility_timeout") or _VISIBILITY_TIMEOUT_S),
        unacked_key=str(transport.get("unacked_key") or "unacked"),
        unacked_index_key=str(transport.get("unacked_index_key") or "unacked_index"),
        retry=connection_retry(conf),
    )


def _results(app: Celery) -> RedisResultConfig | SqliteResultConfig | AmqpResultConfig | None:
    backend = app.backend
    if isinstance(backend, RpcBackend):
        return AmqpResultConfig(addresses=backend.addresses, retry=_result_retry(app))
    if isinstance(backend, SqliteBackend):
        return SqliteResultConfig(address=backend.address, expires_s=backend.expires_s, retry=_result_retry(app))
    if not isinstance(backend, RedisBackend):
        return None
    return RedisResultConfig(address=backend.address, expires_s=backend.expires_s, retry=_result_retry(app))


def _result_retry(app: Celery) -> RetryPolicy:
    """Celery's policy for results (20 times, a second apart) with the changes of ``retry_policy``.

    ``result_backend_always_retry`` has a policy of its own.
    """
    conf = app.conf
    if conf.result_backend_always_retry:
        first_s = conf.result_backend_base_sleep_between_retries_ms / 1000
        most = conf.result_backend_max_retries
        return RetryPolicy(
            max_retries=None if most == math.inf else int(most),
            interval_start_s=first_s,
            interval_step_s=first_s,
            interval_max_s=conf.result_backend_max_sleep_between_retries_ms / 1000,
        )
    options = conf.result_backend_transport_options or {}
    policy = {
        "max_retries": 20, "interval_start": 0.0, "interval_step": 1.0, "interval_max": 1.0,
        **(options.get("retry_policy") or {}),
    }  # fmt: skip
    return retry_of(policy)
