"""``celery worker`` on our engine: Celery's own worker program hands itself over when it is started.

Whoever starts a worker ends up at ``celery.apps.worker.Worker``: ``celery worker``, ``app.worker_main()``, management
commands, Airflow. Its initialisation and start are replaced in place, so that classes which were derived from it, or
imported, before count as well.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from celery.apps.worker import Worker
from celery.concurrency import get_implementation
from celery.utils.nodenames import default_nodename

from pyworker.compat import adapt
from pyworker.compat.celery.worker_facade import WorkerFacade
from pyworker.exceptions import ImproperlyConfigured
from pyworker.worker.options import canonical_pool, pool_refusal, refusal, solo_refusal
from pyworker.worker.probes import listening_address
from pyworker.worker.protocol import WorkerOptions
from pyworker.worker.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: The pools by the name that the command line knows them under.
_POOLS = ("prefork", "solo", "threads", "eventlet", "gevent")
#: Arguments of Celery's worker that are no options of ours: they name what is ours anyway, or are done already.
_NOT_OPTIONS = frozenset(
    (
        *("app", "pool_cls", "detach", "uid", "gid", "umask", "executable", "workdir", "beat", "scheduler"),
        *("schedule_filename", "autoscale", "pool_start_method", "ready_callback", "use_eventloop", "redirect_stdouts"),
    )
)
_FIELDS = {
    "time_limit": "time_limit_s",
    "soft_time_limit": "soft_time_limit_s",
    "heartbeat_interval": "heartbeat_interval_s",
    "max_memory_per_child": "max_memory_per_child_kib",
}


def install() -> None:
    """Make every worker that this process starts run on our engine. Idempotent."""
    if getattr(Worker, "_pyworker_installed", False):
        return
    original: Callable[..., None] = Worker.__init__

    def initialise(self: Any, app: Any = None, hostname: str | None = None, **arguments: Any) -> None:
        if isinstance(self, WorkerFacade):
            # Our own worker, whose initialisation is the installed Celery's.
            original(self, app=app, hostname=hostname, **arguments)
            return
        self.app = app or self.app
        self.hostname = default_nodename(hostname)
        self._pyworker_arguments = arguments

    def start(self: Any) -> None:
        self.exitcode = _run(self.app, self.hostname, self._pyworker_arguments)

    Worker.__init__ = initialise
    Worker.start = start
    Worker._pyworker_installed = True


def _run(app: Any, hostname: str, arguments: Mapping[str, Any]) -> int:
    try:
        options = worker_options(hostname, arguments)
        probes = getattr(app.conf, "worker_probes", None)
        options.probes = listening_address(probes) if probes else None
        return Runner(adapt(app), options).run()
    except (ImproperlyConfigured, ValueError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1


def worker_options(hostname: str, arguments: Mapping[str, Any]) -> WorkerOptions:
    """The options that a worker was made with, in our form.

    Raises:
        ImproperlyConfigured: one of them is not supported; names it as the command line does.
    """
    refused = refusal({**arguments, "schedule_filename": None})
    if refused is not None:
        raise ImproperlyConfigured(f"{refused[0]}: {refused[1]}")
    if arguments.get("pool_start_method") == "spawn":
        raise ImproperlyConfigured("--pool-start-method: children are forked by a server; spawn is not supported")
    pool = canonical_pool(_pool_name(arguments.get("pool") or arguments.get("pool_cls") or "prefork"))
    reason = pool_refusal(pool)
    if reason is not None:
        raise ImproperlyConfigured(f"-P/--pool: {reason}")
    known = WorkerOptions.__dataclass_fields__
    given = {_FIELDS.get(name, name): value for name, value in arguments.items() if name not in _NOT_OPTIONS}
    given.pop("pool", None)
    fields = {name: value for name, value in given.items() if name in known}
    for name in ("queues", "exclude_queues", "include"):
        value = fields.get(name)
        fields[name] = tuple(value.split(",")) if isinstance(value, str) else tuple(value or ())
    fields["task_events"] = bool(fields.get("task_events"))
    autoscale = arguments.get("autoscale")
    if autoscale:
        fields["autoscale"] = ",".join(str(part) for part in autoscale)
    options = WorkerOptions(
        hostname=hostname,
        pool=pool,
        extra={name: value for name, value in given.items() if name not in known},
        **_number(fields),
    )
    refused_solo = solo_refusal(options) if pool == "solo" else None
    if refused_solo:
        raise ImproperlyConfigured(f"-P/--pool: {refused_solo}")
    return options


def _number(fields: dict[str, Any]) -> dict[str, Any]:
    """``-c auto`` arrives as a word: the number is the worker's to find out."""
    if not isinstance(fields.get("concurrency"), (int, type(None))):
        fields["concurrency"] = len(os.sched_getaffinity(0))
    # The command line writes "no level" as a number of logging already.
    return {name: value for name, value in fields.items() if value is not None}


def _pool_name(pool: Any) -> str:
    """The name of a pool that is given as a class or a name."""
    if isinstance(pool, str):
        return pool
    return next((name for name in _POOLS if _is_pool(name, pool)), "custom")


def _is_pool(name: str, pool: Any) -> bool:
    # The module decides: asking for the class of one that is not installed would import its library.
    if not pool.__module__.endswith(f".{name}" if name != "threads" else ".thread"):
        return False
    return bool(get_implementation(name) is pool)
