"""Memory of a worker that holds a great many ETA tasks, and the time it takes to take them in."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import celery
import celery.signals
import redis

from pyworker.bench import processes, tally
from pyworker.bench.errors import BenchError
from pyworker.bench.peers.celery_peer import CeleryPeer
from pyworker.bench.peers.celery_protocol import CeleryClient, make_app
from pyworker.bench.progress import ConsoleReporter
from pyworker.bench.redis_server import RedisServer
from pyworker.bench.settings import AppSettings
from pyworker.bench.worker_process import WorkerProcess

if TYPE_CHECKING:
    from rich.console import Console

_DEADLINE_S = 600.0
_MEGABYTE = 1 << 20


def measure_eta(messages: int, console: Console) -> dict[str, float]:
    """Return memory in MB before and with the messages held, and the seconds it took."""
    console.rule(f"{messages} ETA tasks held")
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer())
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="pyworker-bench-"))
        path = os.path.join(directory, "tally")
        tally.create(path, messages)
        settings = AppSettings(
            broker_url=server.url(0), backend_url=server.url(1), queue="bench-eta", tally_path=path,
            tally_capacity=messages,
        )  # fmt: skip
        peer = CeleryPeer("pyworker", "pyworker", "")
        plain = peer.connect(settings)
        due = datetime.now(timezone.utc) + timedelta(hours=12)
        delayed = CeleryClient(
            make_app(celery.Celery, celery.signals, settings), celery.group, settings, "", {"eta": due}
        )
        reporter = stack.enter_context(ConsoleReporter(console))
        worker = stack.enter_context(
            WorkerProcess(peer, settings, concurrency=2, pool="prefork", loglevel="WARNING", log_path=f"{path}.log")
        )
        plain.round_trip(0)  # the worker is up
        before = _memory_mb(worker)
        reporter.phase(f"sending {messages} ETA tasks", messages)
        begun = time.monotonic()
        delayed.preload(range(1, messages))
        broker = redis.Redis.from_url(settings.broker_url)
        _wait_until_held(worker, broker, messages - 1, reporter)
        held_at = time.monotonic()
        found = {
            "messages": float(messages - 1),
            "memory_before_mb": before,
            "memory_held_mb": _memory_mb(worker),
            "seconds": held_at - begun,
            "bytes_per_message": (_memory_mb(worker) - before) * _MEGABYTE / (messages - 1),
        }
        console.print(str(found), highlight=False)
        return found


def _wait_until_held(worker: WorkerProcess, broker: redis.Redis, messages: int, reporter: ConsoleReporter) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    held = 0
    while held < messages:
        worker.ensure_running()
        if time.monotonic() > deadline:
            raise BenchError(f"only {held} of {messages} ETA tasks are held:\n{worker.log_tail()}")
        held = int(broker.hlen("unacked"))
        reporter.advance(held)
        time.sleep(0.05)


def _memory_mb(worker: WorkerProcess) -> float:
    return sum(item.pss for item in processes.memory(worker.pid)) / _MEGABYTE
