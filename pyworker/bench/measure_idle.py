"""An idle worker: its round trips and its CPU time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyworker.bench import processes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyworker.bench.peers.base import Client
    from pyworker.bench.tally import Tally
    from pyworker.bench.worker_process import WorkerProcess

#: A pause before each request, so that the worker is idle and not merely between two tasks.
_PAUSE_S = 0.005
_WARM_UP = 10


@dataclass(frozen=True, kw_only=True)
class RoundTrips:
    """Seconds from the call that sends a task, one of each for every task."""

    #: To the task's first line.
    to_start_s: list[float]
    #: To having its result.
    to_result_s: list[float]


def measure_round_trips(client: Client, tally: Tally, indexes: Sequence[int]) -> RoundTrips:
    """Send tasks one at a time and wait for each one's result."""
    found = RoundTrips(to_start_s=[], to_result_s=[])
    for number, index in enumerate(indexes):
        time.sleep(_PAUSE_S)
        begun = time.monotonic()
        client.round_trip(index)
        if number >= _WARM_UP or len(indexes) <= _WARM_UP:
            found.to_result_s.append(time.monotonic() - begun)
            found.to_start_s.append(tally.starts(index, index + 1)[0] - begun)
    return found


def measure_idle_cpu(worker: WorkerProcess, seconds: float) -> float:
    """Return the share of one core in percent that the worker uses while nothing happens."""
    before, begun = processes.cpu_seconds(worker.pid), time.monotonic()
    time.sleep(seconds)
    worker.ensure_running()
    used = processes.cpu_seconds(worker.pid) - before
    return used / (time.monotonic() - begun) * 100
