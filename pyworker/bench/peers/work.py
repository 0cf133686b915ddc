"""What the bench's tasks do, the same for every library."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import TYPE_CHECKING

from pyworker.bench.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pyworker.bench.settings import AppSettings

_CPU_BLOCK = b"x" * 1024
_CPU_ROUNDS = 1000
#: ``mixed``: of 100 tasks 90 do nothing, 9 sleep for a millisecond and one for ten.
_MIXED_SHORT_FROM, _MIXED_SHORT_S = 90, 0.001
_MIXED_LONG_FROM, _MIXED_LONG_S = 99, 0.010


def make_work(settings: AppSettings) -> Callable[[int, str], int]:
    """Return the body of the bench's task: record the start, work, return the index."""
    tally = Tally(settings.tally_path, settings.tally_capacity)
    duration_s = settings.duration_s

    def noop(index: int, payload: str) -> int:
        tally.record(index)
        return index

    def sleep(index: int, payload: str) -> int:
        tally.record(index)
        time.sleep(duration_s)
        return index

    def print_line(index: int, payload: str) -> int:
        tally.record(index)
        print(f"Job {index} finished at {time.time()}")
        return index

    def cpu(index: int, payload: str) -> int:
        tally.record(index)
        for _round in range(_CPU_ROUNDS):
            hashlib.sha256(_CPU_BLOCK).digest()
        return index

    def mixed(index: int, payload: str) -> int:
        tally.record(index)
        share = index % 100
        if share >= _MIXED_SHORT_FROM:
            time.sleep(_MIXED_LONG_S if share >= _MIXED_LONG_FROM else _MIXED_SHORT_S)
        return index

    if settings.work == "noop":
        return sleep if duration_s else noop
    return {"print": print_line, "cpu": cpu, "mixed": mixed}[settings.work]


def make_async_work(settings: AppSettings) -> Callable[[int, str], Awaitable[int]]:
    """Return the same body for libraries whose tasks are coroutines: what sleeps there lets others run."""
    tally = Tally(settings.tally_path, settings.tally_capacity)
    plain = make_work(settings)

    async def sleep(index: int, payload: str) -> int:
        tally.record(index)
        await asyncio.sleep(settings.duration_s)
        return index

    async def mixed(index: int, payload: str) -> int:
        tally.record(index)
        share = index % 100
        if share >= _MIXED_SHORT_FROM:
            await asyncio.sleep(_MIXED_LONG_S if share >= _MIXED_LONG_FROM else _MIXED_SHORT_S)
        return index

    async def call(index: int, payload: str) -> int:
        return plain(index, payload)

    if settings.work == "noop" and settings.duration_s:
        return sleep
    return mixed if settings.work == "mixed" else call
