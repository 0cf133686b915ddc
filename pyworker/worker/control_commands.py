"""Parts of remote control that need no library: how jobs, pool and resources are described in Celery's shape."""

from __future__ import annotations

import json
import logging
import os
import resource
from typing import TYPE_CHECKING, Any

from kombu.serialization import loads

from pyworker.compression import decompress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pyworker._native import Notice
    from pyworker.worker.control import ControlledWorker
    from pyworker.worker.protocol import WorkerApp

logger = logging.getLogger("pyworker.worker.control")

_RESOURCE_FIELDS = (
    *("utime", "stime", "maxrss", "ixrss", "idrss", "isrss", "minflt", "majflt", "nswap", "inblock", "oublock"),
    *("msgsnd", "msgrcv", "nsignals", "nvcsw", "nivcsw"),
)


def parse_object(data: bytes) -> dict[str, Any]:
    """Read a JSON object as the engine hands it over; anything else counts as empty."""
    value = json.loads(data) if data else {}
    return value if isinstance(value, dict) else {}


def describe_job(notice: Notice, hostname: str, *, is_active: bool) -> dict[str, Any]:
    """Describe one job of the engine as Celery's ``Request.info`` does."""
    headers = parse_object(notice.headers)
    properties = parse_object(notice.properties)
    delivery = properties.get("delivery_info") or {}
    args, kwargs = _arguments(notice, headers)
    return {
        "id": notice.task_id,
        "name": headers.get("shadow") or notice.task_name,
        "args": args,
        "kwargs": kwargs,
        "type": notice.task_name,
        "hostname": hostname,
        "time_start": notice.seconds if is_active else None,
        "acknowledged": False,
        "delivery_info": {
            "exchange": delivery.get("exchange"),
            "routing_key": delivery.get("routing_key"),
            "priority": properties.get("priority"),
            "redelivered": notice.redelivered or delivery.get("redelivered", False),
        },
        "worker_pid": notice.pid if is_active else None,
    }


def _arguments(notice: Notice, headers: dict[str, Any]) -> tuple[Any, Any]:
    body: Any = notice.body
    try:
        if headers.get("compression"):
            body = decompress(body, headers["compression"])
        args, kwargs, _ = loads(body, notice.content_type, notice.content_encoding)
    except Exception:  # what cannot be decoded here is shown as its producer described it
        return headers.get("argsrepr", ""), headers.get("kwargsrepr", "")
    return args, kwargs


def shutdown(_app: WorkerApp, worker: ControlledWorker, msg: str = "Got shutdown from remote", **_: Any) -> None:
    """End the worker; there is no reply."""
    logger.warning(msg)
    worker.request_shutdown(exitcode=0)
    raise SystemExit(0)


def pool_statistics(
    implementation: str,
    children: Iterable[tuple[int, int, int]],
    concurrency: int,
    max_tasks_per_child: int | None,
    timeouts: Sequence[float],
) -> dict[str, Any]:
    """Describe the pool in the fields of Celery's prefork pool."""
    live = list(children)
    total = sum(started for _, _, started in live)
    shares = [f"{started / total if total else 0:.2f}" for _, _, started in live]
    return {
        "implementation": implementation,
        "max-concurrency": concurrency,
        "processes": [pid for _, pid, _ in live],
        "max-tasks-per-child": max_tasks_per_child or "N/A",
        "put-guarded-by-semaphore": False,
        "timeouts": list(timeouts),
        "writes": {
            "total": total,
            "avg": f"{1 / len(live) if live and total else 0:.2f}",
            "all": ", ".join(shares),
            "raw": ", ".join(str(started) for _, _, started in live),
            "strategy": "fair",
            "inqueues": {"total": len(live), "active": len(live)},
        },
    }


def solo_statistics(implementation: str) -> dict[str, Any]:
    """Describe the pool that is the main process itself in the fields of Celery's solo pool."""
    return {
        "implementation": implementation,
        "max-concurrency": 1,
        "processes": [os.getpid()],
        "max-tasks-per-child": None,
        "put-guarded-by-semaphore": True,
        "timeouts": [],
    }


def resource_use() -> dict[str, float]:
    """Return the resource use of this process in the order of Celery's reply."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {name: getattr(usage, f"ru_{name}") for name in _RESOURCE_FIELDS}


#: What no application answers by itself.
COMMANDS: dict[str, Callable[..., Any]] = {"shutdown": shutdown}
