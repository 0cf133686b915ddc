"""The bench's application on SAQ; the worker imports this module."""

from __future__ import annotations

import multiprocessing
from typing import Any

from saq import Queue

from pyworker.bench.peers.work import make_async_work
from pyworker.bench.settings import AppSettings

_settings = AppSettings.from_environment()
_work = make_async_work(_settings)


async def bench_task(_context: Any, *, index: int, payload: str = "") -> int:
    """Run the bench's work."""
    return await _work(index, payload)


async def stop_others(_context: Any) -> None:
    """Pass the signal on: SAQ's first process would wait for the others, which are signalled only as a group."""
    for process in multiprocessing.active_children():
        process.terminate()


#: What ``saq`` reads: everything but these is its default.
settings = {
    "queue": Queue.from_url(_settings.broker_url, name=_settings.queue),
    "functions": [bench_task],
    "shutdown": stop_others,
}
