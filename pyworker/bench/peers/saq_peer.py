"""SAQ on Redis.

``saq[redis]`` asks for redis-py below 8, newer Celery for a newer one: ``make bench`` runs it in an environment of its
own.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from saq import Queue
from saq.job import TERMINAL_STATUSES

from pyworker.bench.machine import distribution_version
from pyworker.bench.peers.async_handles import AsyncHandleClient
from pyworker.bench.peers.handles import poll

if TYPE_CHECKING:
    from saq import Job

    from pyworker.bench.peers.base import Client
    from pyworker.bench.settings import AppSettings

#: A job is forgotten with its result after this time; a negative one forgets it when it ends.
_RESULT_TTL_S, _NO_RESULT_TTL_S = 86400, -1


class SaqPeer:
    """``saq --workers CONCURRENCY`` with its default of 10 jobs at once in each process."""

    name = "saq"

    def __init__(self, payload: str) -> None:
        self._payload = payload

    def version(self) -> str:
        """Return SAQ's version."""
        return distribution_version("saq") or "-"

    def worker_command(self, settings: AppSettings, concurrency: int, pool: str, loglevel: str) -> list[str]:
        """Return the worker's command."""
        command = [sys.executable, "-m", "saq", "pyworker.bench.peers.saq_app.settings", "--workers", str(concurrency)]
        return [*command, "--verbose"] if loglevel.upper() == "INFO" else command

    def connect(self, settings: AppSettings) -> Client:
        """Return its client."""
        return SaqClient(settings, self._payload)


class SaqClient(AsyncHandleClient):
    """Sends by ``queue.enqueue``."""

    def __init__(self, settings: AppSettings, payload: str) -> None:
        super().__init__(settings, payload)
        self._queue: Any = Queue.from_url(settings.broker_url, name=settings.queue)
        self._ttl_s = _NO_RESULT_TTL_S if settings.ignore_result else _RESULT_TTL_S
        self.complete(self._queue.connect())

    async def enqueue_async(self, index: int) -> Any:
        """Send one job."""
        payload = {"payload": self.payload} if self.payload else {}
        return await self._queue.enqueue("bench_task", index=index, ttl=self._ttl_s, **payload)

    def read(self, handle: Job) -> Any:
        """Read a result without waiting."""
        self.complete(handle.refresh())
        return handle.result if handle.status in TERMINAL_STATUSES else None

    def wait(self, handle: Job, timeout_s: float) -> Any:
        """Poll, more often than ``queue.apply`` does: an announcement may come before ``refresh`` listens for it."""
        return poll(lambda: self.read(handle), timeout_s)

    def leftovers(self) -> int:
        """Count jobs that are queued, under way or for later."""
        return int(self.complete(self._queue.count("incomplete")))

    async def close_async(self) -> None:
        """Close the connections."""
        await self._queue.disconnect()
