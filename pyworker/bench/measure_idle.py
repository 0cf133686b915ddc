"""An idle worker: its round trips and its CPU time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pyworker.bench import processes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyworker.bench.peers.base import Client
    from pyworker.bench.worker_process import WorkerProcess

#: A pause before each request, so that the worker is idle and not merely between two tasks.
_PAUSE_S = 0.005
_WARM_UP = 10


def measure_round_trips(client: Client, indexes: Sequence[int]) -> list[float]:
    """Return the seconds from sending a task to having its result, one task at a time."""
    durations = []
    for number, index in enumerate(indexes):
        time.sleep(_PAUSE_S)
        begun = time.monotonic()
        client.round_trip(index)
        if number >= _WARM_UP or len(indexes) <= _WARM_UP:
            durations.append(time.monotonic() - begun)
    return durations


def measure_idle_cpu(worker: WorkerProcess, seconds: float) -> float:
    """Return the share of one core in percent that the worker uses while nothing happens."""
    before, begun = processes.cpu_seconds(worker.pid), time.monotonic()
    time.sleep(seconds)
    worker.ensure_running()
    used = processes.cpu_seconds(worker.pid) - before
    return used / (time.monotonic() - begun) * 100
