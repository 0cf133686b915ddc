"""The remote control commands that read, for a worker of our own app: Celery's replies in Celery's shape."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

from pyworker.redacting import connection_info
from pyworker.version import __version__
from pyworker.worker import memory_samples
from pyworker.worker.control_commands import describe_job, parse_object, pool_statistics, resource_use, solo_statistics
from pyworker.worker.native_node import NativeNode, as_list, named_plainly, ok

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyworker._native import Notice

logger = logging.getLogger("celery.worker.control")

_TASK_INFO = ("exchange", "routing_key", "rate_limit")


@named_plainly
class NativeInspect:
    """Answers; used by the mailbox's thread."""

    def __init__(self, node: NativeNode) -> None:
        self._node = node
        self.commands: dict[str, Callable[..., Any]] = {
            "active": self.active, "dump_active": self.active, "active_queues": self.active_queues,
            "clock": self.clock, "conf": self.conf, "dump_conf": self.conf, "hello": self.hello,
            "memdump": self.memdump, "memsample": self.memsample, "objgraph": self.objgraph, "ping": self.ping,
            "query_task": self.query_task, "registered": self.registered, "dump_tasks": self.registered,
            "report": self.report, "reserved": self.reserved, "dump_reserved": self.reserved,
            "revoked": self.revoked, "dump_revoked": self.revoked, "scheduled": self.scheduled,
            "dump_schedule": self.scheduled, "stats": self.stats,
        }  # fmt: skip

    def ping(self, **_: Any) -> Any:
        """Say that the node lives."""
        return ok("pong")

    def clock(self, **_: Any) -> Any:
        """Tell the logical clock."""
        return {"clock": self._node.engine.clock()}

    def report(self) -> Any:
        """Describe the installation."""
        node = self._node
        lines = [
            "",
            f"software -> pyworker:{__version__} py:{platform.python_version()}",
            f"platform -> system:{platform.system()} arch:{', '.join(platform.architecture())}",
            f"            kernel version:{platform.release()} imp:{platform.python_implementation()}",
            f"settings -> results:{node.app.backend.as_uri()}",
            "",
            node.app.conf.humanize(),
        ]
        return ok("\n".join(lines) + "\n")

    def conf(self, with_defaults: bool = False, **_: Any) -> Any:
        """List the settings, without passwords."""
        return {name: _plain(value) for name, value in self._node.app.conf.table(with_defaults=with_defaults).items()}

    def active(self, safe: bool = False, **_: Any) -> Any:
        """List the tasks being run."""
        return [self._describe(job, is_active=True, safe=safe) for job in self._node.engine.jobs("active")]

    def reserved(self, **_: Any) -> Any:
        """List the tasks held for the pool."""
        return [self._describe(job) for job in self._node.engine.jobs("reserved")]

    def scheduled(self, **_: Any) -> Any:
        """List the tasks that wait for their time."""
        return [
            {"eta": parse_object(job.headers).get("eta"), "priority": 6, "request": self._describe(job)}
            for job in self._node.engine.jobs("scheduled")
        ]

    def _describe(self, job: Notice, *, is_active: bool = False, safe: bool = False) -> dict[str, Any]:
        info = describe_job(job, self._node.hostname, is_active=is_active)
        if safe:
            headers = parse_object(job.headers)
            info |= {"args": headers.get("argsrepr", ""), "kwargs": headers.get("kwargsrepr", "")}
        task = self._node.app.tasks.get(job.task_name)
        info["acknowledged"] = is_active and not (task is not None and task.acks_late)
        return info

    def query_task(self, ids: Any, **_: Any) -> Any:
        """Tell where tasks are."""
        wanted = set(as_list(ids))
        found = {}
        for state in ("scheduled", "reserved", "active"):
            for job in self._node.engine.jobs(state):
                if job.task_id in wanted:
                    found[job.task_id] = (state, self._describe(job, is_active=state == "active"))
        return found

    def registered(self, taskinfoitems: Any = None, builtins: bool = False, **_: Any) -> Any:
        """List the tasks."""
        items = [item for item in taskinfoitems or _TASK_INFO if isinstance(item, str) and not item.startswith("_")]
        tasks = self._node.app.tasks
        names = (name for name in sorted(tasks) if builtins or not name.startswith("celery."))
        return [_task_line(tasks[name], items) for name in names]

    def revoked(self, **_: Any) -> Any:
        """List the revoked ids."""
        return self._node.revoked.ids()

    def active_queues(self) -> Any:
        """Describe the queues being consumed from."""
        return [queue.as_dict(recurse=True) for queue in self._node.queues.values()]

    def hello(self, from_node: str, revoked: Any = None, **_: Any) -> Any:
        """Exchange revoked ids and clocks with a node that starts."""
        node = self._node
        if from_node == node.hostname:
            return None
        logger.info("sync with %s", from_node)
        if revoked:
            node.revoked.add(revoked)
        return {"revoked": node.revoked.ids(), "clock": node.engine.forward_clock()}

    def stats(self, **_: Any) -> Any:
        """Describe the node: broker, pool, counters, resource use."""
        node = self._node
        config, counters = node.config, node.engine.counters()
        with node.connect() as connection:
            broker = connection_info(connection.info())
        broker["heartbeat"] = float(node.app.conf.broker_heartbeat or 0)
        multiplier = config.prefetch.multiplier
        # Solo's one slot fetches for as many as were asked for, as Celery's does.
        size = config.pool.concurrency if node.is_solo else counters.get("pool_size", config.pool.concurrency)
        autoscaler = {} if node.autoscaler is None else {"autoscaler": node.autoscaler.info()}
        return {
            "total": {name.removeprefix("task:"): count for name, count in counters.items() if ":" in name},
            "pid": os.getpid(),
            "clock": str(node.engine.clock()),
            "uptime": round(time.time() - node.started_at),
            "pool": self._pool(),
            **autoscaler,
            "broker": broker,
            "prefetch_count": size * multiplier + counters.get("eta_held", 0) if multiplier else 0,
            "rusage": resource_use(),
        }

    def _pool(self) -> dict[str, Any]:
        node = self._node
        if node.is_solo:
            return solo_statistics(node.implementation)
        pool = node.config.pool
        soft_s, hard_s = node.time_limits_s
        return pool_statistics(
            node.implementation, node.engine.children(), pool.concurrency, pool.max_tasks_per_child,
            (soft_s or 0, hard_s or 0),
        )  # fmt: skip

    def memsample(self, **_: Any) -> Any:
        """Take a sample of the main process's memory."""
        return memory_samples.sample()

    def memdump(self, samples: int = 10, **_: Any) -> Any:
        """Show the samples."""
        return memory_samples.dump(samples)

    def objgraph(self, num: int = 200, max_depth: int = 10, type: str = "Request") -> Any:
        """Draw the references to objects of a type, with the objgraph library.

        Raises:
            ImportError: it is not installed.
        """
        if find_spec("objgraph") is None:
            raise ImportError("Requires the objgraph library")
        library: Any = import_module("objgraph")
        logger.info("Dumping graph for type %r", type)
        with NamedTemporaryFile(prefix="cobjg", suffix=".png", delete=False) as file:
            objects = library.by_type(type)[:num]
            library.show_backrefs(
                objects, max_depth=max_depth, highlight=lambda each: each in objects, filename=file.name
            )
        return {"filename": file.name}


def _task_line(task: Any, items: Iterable[str]) -> str:
    fields = [f"{item}={value}" for item in items if (value := getattr(task, item, None)) is not None]
    return f"{task.name} [{' '.join(fields)}]" if fields else str(task.name)


def _plain(value: Any) -> Any:
    """Return what JSON can carry."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)
