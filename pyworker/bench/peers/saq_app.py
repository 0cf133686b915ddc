"""The bench's application on SAQ; the worker imports this module."""

from __future__ import annotations

import multiprocessing
from typing import Any

from saq import Queue

from pyworker.bench.peers.work import make_async_work
from pyworker.bench.settings import AppSettings

#: Longer than any run.
_HOLD_S = 86400

_settings = AppSettings.from_environment()
_work = make_async_work(_settings)
_queue: Any = Queue.from_url(_settings.broker_url, name=_settings.queue)


async def bench_task(_context: Any, *, index: int, payload: str = "") -> int:
    """Run the bench's work."""
    return await _work(index, payload)


async def hold_off_sweeps(_context: Any) -> None:
    """Take the lock under which SAQ looks for stuck jobs.

    A job that a worker has popped and not yet marked as active looks stuck to it (SAQ 0.26.4), with redis-py 7 as with
    8: it looks at every start, and the first jobs of a full queue then run twice.
    """
    await _queue.redis.set(_queue.namespace("sweep"), 1, ex=_HOLD_S)


async def stop_others(_context: Any) -> None:
    """Pass the signal on: SAQ's first process would wait for the others, which are signalled only as a group."""
    for process in multiprocessing.active_children():
        process.terminate()


#: What ``saq`` reads: everything but these is its default.
settings = {"queue": _queue, "functions": [bench_task], "startup": hold_off_sweeps, "shutdown": stop_others}
