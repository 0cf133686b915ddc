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
from pyworker.transport.sqlite_file import open_file
from pyworker.transport.sqlite_url import parse_sqlite_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    #: Makes what a run needs and returns the URLs of broker and results, and what counts the tasks held.
    Place = Callable[[ExitStack, str], tuple[str, str, Callable[[], int]]]

_DEADLINE_S = 600.0
_MEGABYTE = 1 << 20


def _on_redis(stack: ExitStack, _directory: str) -> tuple[str, str, Callable[[], int]]:
    server = stack.enter_context(RedisServer())
    broker = stack.enter_context(redis.Redis.from_url(server.url(0)))
    return server.url(0), server.url(1), lambda: int(broker.hlen("unacked"))


def _on_sqlite(_stack: ExitStack, directory: str) -> tuple[str, str, Callable[[], int]]:
    url = f"sqlite:///{directory}/bench.db"
    file = open_file(parse_sqlite_url(url, setting="bench"), setting="bench")
    # They wait in the file, whoever runs.
    return url, url, lambda: sum(scheduled for _name, _ready, scheduled, _held in file.queues())


#: Name of the measurement -> where it takes place.
ETA_PLACES: dict[str, Place] = {"eta": _on_redis, "eta-sqlite": _on_sqlite}


def measure_eta(place: Place, messages: int, console: Console) -> dict[str, float]:
    """Return memory in MB before and with the messages held, and the seconds it took."""
    console.rule(f"{messages} ETA tasks held")
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="pyworker-bench-"))
        broker_url, backend_url, held = place(stack, directory)
        path = os.path.join(directory, "tally")
        tally.create(path, messages)
        settings = AppSettings(
            broker_url=broker_url, backend_url=backend_url, queue="bench-eta", tally_path=path,
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
        _wait_until_held(worker, held, messages - 1, reporter)
        held_at = time.monotonic()
        memory = _memory_mb(worker)
        plain.round_trip(0)  # what is not to wait does not
        found = {
            "messages": float(messages - 1),
            "memory_before_mb": before,
            "memory_held_mb": memory,
            "seconds": held_at - begun,
            "bytes_per_message": (memory - before) * _MEGABYTE / (messages - 1),
        }
        console.print(str(found), highlight=False)
        return found


def _wait_until_held(worker: WorkerProcess, held: Callable[[], int], messages: int, reporter: ConsoleReporter) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    count = 0
    while count < messages:
        worker.ensure_running()
        if time.monotonic() > deadline:
            raise BenchError(f"only {count} of {messages} ETA tasks are held:\n{worker.log_tail()}")
        count = held()
        reporter.advance(count)
        time.sleep(0.05)


def _memory_mb(worker: WorkerProcess) -> float:
    return sum(item.pss for item in processes.memory(worker.pid)) / _MEGABYTE
