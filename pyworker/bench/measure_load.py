"""Latency under load: an open loop, in which tasks arrive on schedule whether or not the worker keeps up."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyworker.bench.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyworker.bench.peers.base import Client
    from pyworker.bench.tally import Tally
    from pyworker.bench.worker_process import WorkerProcess

_TICK_S = 0.001
_STALL_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Load:
    """What each task of an open loop took, in seconds from the time at which it was due."""

    to_sent_s: Sequence[float]
    to_start_s: Sequence[float]


def measure_load(
    worker: WorkerProcess, client: Client, tally: Tally, *, first: int, count: int, rate_per_s: float
) -> Load:
    """Send ``count`` tasks at a fixed rate.

    Counted from the time at which a task was due and not from when it was sent, so that a stall of the client or
    of the broker shows in the figures of all tasks behind it.
    """
    due_at, sent_at = _send_on_schedule(client, first, count, rate_per_s)
    deadline = time.monotonic() + _STALL_S
    while tally.executed(first, first + count) < count:
        worker.ensure_running()
        if time.monotonic() > deadline:
            raise BenchError(f"tasks of the load phase did not run; the worker's log ends:\n{worker.log_tail()}")
        time.sleep(0.01)
    starts = tally.starts(first, first + count)
    return Load(
        to_sent_s=[sent - due for sent, due in zip(sent_at, due_at, strict=True)],
        to_start_s=[start - due for start, due in zip(starts, due_at, strict=True)],
    )


def _send_on_schedule(client: Client, first: int, count: int, rate_per_s: float) -> tuple[list[float], list[float]]:
    """Return for each task when it was due and when the broker had taken it."""
    begun = time.monotonic() + _TICK_S
    due_at = [begun + number / rate_per_s for number in range(count)]
    sent_at: list[float] = []
    sent = 0
    while sent < count:
        now = time.monotonic()
        ready = min(int((now - begun) * rate_per_s) + 1 if now >= begun else 0, count)
        if ready > sent:
            client.preload(range(first + sent, first + ready))
            sent_at += [time.monotonic()] * (ready - sent)
            sent = ready
        else:
            time.sleep(max(min(due_at[sent] - now, _TICK_S), 0.0))
    return due_at, sent_at
