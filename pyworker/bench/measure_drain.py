"""Drain: a full queue, a worker that starts, and the time until the last result is stored."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyworker.bench import processes
from pyworker.bench.errors import BenchError

if TYPE_CHECKING:
    from pyworker.bench.peers.base import Client
    from pyworker.bench.progress import Reporter
    from pyworker.bench.tally import Tally
    from pyworker.bench.worker_process import WorkerProcess

_POLL_S = 0.005
_POLL_NEAR_THE_END_S = 0.001
_MEMORY_INTERVAL_S = 0.5
#: Late acknowledgements and log lines of the last tasks are still the drain's CPU time.
_SETTLE_S = 0.1
_STALL_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Drain:
    """What a drain took."""

    first_start_at: float
    finished_at: float
    cpu_s_per_1000: float
    peak_memory_bytes: int


def measure_drain(worker: WorkerProcess, client: Client, tally: Tally, tasks: int, reporter: Reporter) -> Drain:
    """Wait until the tasks 0 to ``tasks`` ran and their results are stored.

    Raises:
        BenchError: the worker ended, or nothing moved for a minute.
    """
    cpu_begin: tuple[float, int] | None = None
    peak_memory = executed = 0
    memory_due = moved_at = time.monotonic()
    while executed < tasks:
        near_the_end = executed > tasks * 0.98
        time.sleep(_POLL_NEAR_THE_END_S if near_the_end else _POLL_S)
        before, executed, now = executed, tally.executed(0, tasks), time.monotonic()
        if executed > before:
            moved_at = now
            reporter.advance(executed)
        if executed and cpu_begin is None:
            cpu_begin = processes.cpu_seconds(worker.pid), executed
        if cpu_begin is not None and now >= memory_due:
            memory_due = now + _MEMORY_INTERVAL_S
            peak_memory = max(peak_memory, sum(item.pss for item in processes.memory(worker.pid)))
        _ensure_progress(worker, moved_at, f"{tasks - executed} tasks did not run")
    finished_at = _wait_for_results(worker, client, tasks)
    time.sleep(_SETTLE_S)
    assert cpu_begin is not None
    cpu_used = processes.cpu_seconds(worker.pid) - cpu_begin[0]
    peak_memory = max(peak_memory, sum(item.pss for item in processes.memory(worker.pid)))
    return Drain(
        first_start_at=min(start for start in tally.starts(0, tasks) if start),
        finished_at=finished_at,
        cpu_s_per_1000=cpu_used / max(tasks - cpu_begin[1], 1) * 1000,
        peak_memory_bytes=peak_memory,
    )


def _wait_for_results(worker: WorkerProcess, client: Client, tasks: int) -> float:
    """Return the time at which the last result was seen to be stored."""
    begun = finished_at = time.monotonic()
    # The oldest results are almost certainly there; asking for the last ones first keeps the question cheap, and
    # asking for all of them then costs time that counts only if one was missing after all.
    for first in (max(tasks - 1000, 0), 0):
        missing = tasks - first
        while missing:
            asked_at = time.monotonic()
            stored = client.stored(first, tasks)
            if stored is None:
                return finished_at
            if tasks - first - stored:
                _ensure_progress(worker, begun, f"{missing} results are not stored")
                finished_at = time.monotonic()
                time.sleep(_POLL_NEAR_THE_END_S)
            elif first:
                finished_at = asked_at
            missing = tasks - first - stored
    return finished_at


def _ensure_progress(worker: WorkerProcess, moved_at: float, what: str) -> None:
    worker.ensure_running()
    if time.monotonic() - moved_at > _STALL_S:
        raise BenchError(f"nothing moved for {_STALL_S:.0f} s: {what}; the worker's log ends:\n{worker.log_tail()}")
