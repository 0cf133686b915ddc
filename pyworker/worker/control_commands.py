"""The remote control commands that need no library: what an engine of ours can say and do by itself.

Replies have the shape of Celery's, because ``celery inspect`` and Flower read them.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal as signals
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from kombu import Exchange, Queue
from kombu.compression import decompress
from kombu.serialization import loads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pyworker._native import Notice
    from pyworker.worker.control import ControlledWorker
    from pyworker.worker.protocol import WorkerApp

logger = logging.getLogger("pyworker.worker.control")

_STARTED_AT = time.time()
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


def ping(_app: WorkerApp, _worker: ControlledWorker, **_: Any) -> dict[str, str]:
    """Say that the node lives."""
    return {"ok": "pong"}


def active(_app: WorkerApp, worker: ControlledWorker, **_: Any) -> list[dict[str, Any]]:
    """List the jobs being run."""
    return [describe_job(job, worker.hostname, is_active=True) for job in worker.engine.jobs("active")]


def reserved(_app: WorkerApp, worker: ControlledWorker, **_: Any) -> list[dict[str, Any]]:
    """List the jobs held for the pool."""
    return [describe_job(job, worker.hostname, is_active=False) for job in worker.engine.jobs("reserved")]


def scheduled(_app: WorkerApp, worker: ControlledWorker, **_: Any) -> list[dict[str, Any]]:
    """List the jobs that wait for their time."""
    return [
        {
            "eta": datetime.fromtimestamp(job.seconds, timezone.utc).isoformat(),
            "priority": 6,
            "request": describe_job(job, worker.hostname, is_active=False),
        }
        for job in worker.engine.jobs("scheduled")
    ]


def registered(app: WorkerApp, _worker: ControlledWorker, **arguments: Any) -> list[str]:
    """List the names of the registered tasks."""
    names = (task.name for task in app.tasks())
    return sorted(name for name in names if arguments.get("builtins") or not name.startswith("celery."))


def active_queues(app: WorkerApp, _worker: ControlledWorker, **_: Any) -> list[dict[str, Any]]:
    """Describe the queues being consumed from."""
    names = app.engine_config().broker.queues
    return [Queue(name, Exchange(name, type="direct"), routing_key=name).as_dict(recurse=True) for name in names]


def revoke(
    _app: WorkerApp,
    worker: ControlledWorker,
    task_id: Any = None,
    terminate: bool = False,
    signal: Any = None,
    **_: Any,
) -> dict[str, str]:
    """Never start these tasks; with ``terminate`` also signal the children that run them."""
    task_ids = [task_id] if isinstance(task_id, str) else [str(one) for one in task_id or ()]
    worker.engine.revoke(task_ids)
    if terminate:
        hit = worker.engine.terminate(task_ids, signal=_signal_number(signal))
        return {"ok": f"terminate: {', '.join(hit)}" if hit else "terminate: tasks unknown"}
    logger.info("Tasks flagged as revoked: %s", ", ".join(task_ids))
    return {"ok": f"tasks {set(task_ids)} flagged as revoked"}


def _signal_number(signal: Any) -> int:
    if isinstance(signal, int):
        return signal
    name = str(signal or "SIGTERM").upper()
    return int(signals.Signals[name if name.startswith("SIG") else f"SIG{name}"])


def shutdown(_app: WorkerApp, worker: ControlledWorker, msg: str = "Got shutdown from remote", **_: Any) -> None:
    """End the worker; there is no reply."""
    logger.warning(msg)
    worker.request_shutdown(exitcode=0)
    raise SystemExit(0)


def stats(app: WorkerApp, worker: ControlledWorker, **_: Any) -> dict[str, Any]:
    """Describe the node: broker, pool, counters, resource use."""
    config = app.engine_config()
    with app.broker_connection() as connection:
        broker = dict(connection.info())
    broker.pop("password", None)
    return {
        "total": {},
        "pid": os.getpid(),
        "clock": "0",
        "uptime": round(time.time() - _STARTED_AT),
        "pool": pool_statistics(
            "pyworker", worker.engine.children(), config.pool.concurrency, config.pool.max_tasks_per_child, (0, 0)
        ),
        "broker": broker,
        "prefetch_count": config.pool.concurrency * config.prefetch.multiplier,
        "rusage": resource_use(),
    }


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


def resource_use() -> dict[str, float]:
    """Return the resource use of this process in the order of Celery's reply."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {name: getattr(usage, f"ru_{name}") for name in _RESOURCE_FIELDS}


COMMANDS: dict[str, Callable[..., Any]] = {
    "ping": ping,
    "active": active,
    "dump_active": active,
    "reserved": reserved,
    "dump_reserved": reserved,
    "scheduled": scheduled,
    "dump_schedule": scheduled,
    "registered": registered,
    "dump_tasks": registered,
    "stats": stats,
    "active_queues": active_queues,
    "revoke": revoke,
    "shutdown": shutdown,
}
