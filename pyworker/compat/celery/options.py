"""The worker's options as the keyword arguments that Celery's own command passes to ``app.Worker``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.utils.log import mlevel
from celery.utils.nodenames import default_nodename, host_format

from pyworker.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from pyworker.worker.protocol import WorkerOptions

#: Celery's names of the pools that the engine provides.
_POOLS = ("prefork", "processes", "solo")


def worker_arguments(app: Any, options: WorkerOptions) -> dict[str, Any]:
    """Return the arguments; as upstream, a setting stands in for an option that was not given."""
    conf = app.conf
    # As upstream's option does: the setting then counts as changed, and reports show it.
    conf.worker_disable_prefetch = bool(options.disable_prefetch or conf.get("worker_disable_prefetch"))
    return {
        "hostname": host_format(default_nodename(options.hostname)),
        "pool_cls": None,
        "loglevel": mlevel(options.loglevel) if options.loglevel is not None else None,
        "logfile": options.logfile,
        # The runner owns the pid file.
        "pidfile": None,
        "statedb": options.statedb or conf.worker_state_db,
        "no_color": bool(options.no_color),
        "quiet": options.quiet,
        "concurrency": options.concurrency or conf.worker_concurrency,
        "detach": False,
        "optimization": options.optimization or "default",
        "prefetch_multiplier": options.prefetch_multiplier or conf.worker_prefetch_multiplier,
        "pool": pool_name(app, options),
        "task_events": options.task_events or None,
        "time_limit": options.time_limit_s,
        "soft_time_limit": options.soft_time_limit_s,
        "max_tasks_per_child": options.max_tasks_per_child,
        "max_memory_per_child": options.max_memory_per_child_kib,
        "purge": options.purge,
        "queues": list(options.queues) or None,
        "exclude_queues": list(options.exclude_queues) or None,
        "include": list(options.include) or None,
        "without_gossip": options.without_gossip,
        "without_mingle": options.without_mingle,
        "without_heartbeat": options.without_heartbeat,
        "heartbeat_interval": options.heartbeat_interval_s,
        "autoscale": options.autoscale,
        "beat": False,
        "schedule_filename": conf.beat_schedule_filename,
        "scheduler": None,
        "umask": None,
        "executable": None,
        **({"pool_start_method": None} if "worker_pool_start_method" in conf else {}),
        # What the application itself declared in ``app.user_options``, for its boot steps.
        **options.extra,
    }


def pool_name(app: Any, options: WorkerOptions) -> str:
    """Return the pool to use: the setting counts where the option has its default, as upstream.

    Raises:
        ImproperlyConfigured: the setting names a pool that is not there yet.
    """
    name = options.pool
    if name == "prefork" and app.conf.worker_pool:
        name = app.conf.worker_pool
    if name not in _POOLS:
        raise ImproperlyConfigured(f"worker_pool: the pool {name!r} is not supported yet; use prefork or solo")
    return str(name)
