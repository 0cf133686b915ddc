"""Worker options that pyworker does not do: refused with the reason.

Nothing is accepted silently or replaced by something else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyworker.worker.protocol import WorkerOptions

#: The pools that exist here; ``processes`` is Celery's other name for prefork.
POOLS = ("prefork", "solo")
_POOL_ALIASES = {"processes": "prefork"}
#: Pools that a stock worker has.
UNSUPPORTED_POOLS = ("eventlet", "gevent", "threads", "custom")

_REFUSED: Mapping[str, tuple[str, str]] = {
    "beat": (
        "-B/--beat",
        "periodic tasks are not sent by this worker yet; run `celery -A proj beat` as a process of its own",
    ),
    "schedule_filename": ("-s/--schedule-filename", "it belongs to -B/--beat, which is not supported yet"),
    "scheduler": ("--scheduler", "it belongs to -B/--beat, which is not supported yet"),
}


def refusal(given: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first option among those given that has no effect yet, and why."""
    for name, (option, reason) in _REFUSED.items():
        if given.get(name):
            return option, reason
    return None


def canonical_pool(name: str) -> str:
    """The name under which a pool is known here."""
    return _POOL_ALIASES.get(name, name)


def pool_refusal(pool: str) -> str | None:
    """Why a pool cannot be used, ``None`` if it can."""
    if pool in POOLS:
        return None
    if pool in UNSUPPORTED_POOLS:
        return f"the {pool} pool is not supported yet; use prefork or solo"
    return f"there is no pool {pool!r}; use prefork or solo"


def solo_refusal(options: WorkerOptions) -> str | None:
    """Why these options cannot go with ``-P solo``, where tasks run in the worker's own process."""
    if options.time_limit_s is not None or options.soft_time_limit_s is not None:
        return "time limits need a pool of processes; use -P prefork or leave out --time-limit and --soft-time-limit"
    if options.max_tasks_per_child is not None or options.max_memory_per_child_kib is not None:
        return "solo has no child processes to replace; leave out --max-tasks-per-child and --max-memory-per-child"
    return None
