"""What one more child costs in memory: the worker's total at two sizes of the pool, after every child has worked."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING

from pyworker.bench import processes, tally
from pyworker.bench.errors import BenchError
from pyworker.bench.measure_drain import measure_drain
from pyworker.bench.peers.registry import find_peer
from pyworker.bench.progress import ConsoleReporter
from pyworker.bench.redis_server import RedisServer
from pyworker.bench.settings import AppSettings
from pyworker.bench.worker_process import WorkerProcess

if TYPE_CHECKING:
    from rich.console import Console

_SMALL, _LARGE = 2, 10
_TASKS = 4000
_MEGABYTE = 1 << 20


def measure_children(console: Console) -> dict[str, dict[str, float]]:
    """Return for each worker its memory in MB at both sizes and per added child."""
    console.rule("memory per added child")
    found: dict[str, dict[str, float]] = {}
    for name in ("pyworker", "celery"):
        try:
            small, large = (_total_mb(name, size, console) for size in (_SMALL, _LARGE))
        except BenchError as error:
            console.print(f"[red]{name}[/red]: {error}", highlight=False)
            continue
        found[name] = {
            f"total_mb_at_{_SMALL}": small,
            f"total_mb_at_{_LARGE}": large,
            "mb_per_added_child": (large - small) / (_LARGE - _SMALL),
        }
        console.print(f"{name}: {found[name]}", highlight=False)
    return found


def _total_mb(name: str, concurrency: int, console: Console) -> float:
    """Return the proportional set sizes of a worker's processes added up, once the pool has run some tasks."""
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer())
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="pyworker-bench-"))
        path = os.path.join(directory, "tally")
        tally.create(path, _TASKS)
        settings = AppSettings(
            broker_url=server.url(0), backend_url=server.url(1), queue="bench-children", tally_path=path,
            tally_capacity=_TASKS, duration_s=0.001,
        )  # fmt: skip
        peer = find_peer(name, app_kind="celery", payload="")
        client = peer.connect(settings)
        stack.callback(client.close)
        record = tally.Tally(path, _TASKS)
        stack.callback(record.close)
        client.preload(range(_TASKS))
        worker = stack.enter_context(
            WorkerProcess(
                peer, settings, concurrency=concurrency, pool="prefork", loglevel="WARNING", log_path=f"{path}.log"
            )
        )
        with ConsoleReporter(console) as reporter:
            reporter.phase(f"{name}: {concurrency} children", _TASKS)
            measure_drain(worker, client, record, _TASKS, reporter)
        total = sum(item.pss for item in processes.memory(worker.pid)) / _MEGABYTE
        worker.stop()
        return total
