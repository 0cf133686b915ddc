"""arq on Redis.

arq 0.28 asks for redis-py below 6, newer Celery for a newer one: ``make bench`` runs it in an environment of its own.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import arq
from arq.connections import RedisSettings
from arq.jobs import Job, JobStatus

from pyworker.bench.machine import distribution_version
from pyworker.bench.peers.async_handles import AsyncHandleClient

if TYPE_CHECKING:
    from pyworker.bench.peers.base import Client
    from pyworker.bench.settings import AppSettings

_POLL_S = 0.0005


class ArqPeer:
    """``arq``, one process with its default of 10 tasks at once: it has no option for more processes."""

    name = "arq"

    def __init__(self, payload: str) -> None:
        self._payload = payload

    def version(self) -> str:
        """Return arq's version."""
        return distribution_version("arq") or "-"

    def worker_command(self, settings: AppSettings, concurrency: int, pool: str, loglevel: str) -> list[str]:
        """Return the worker's command."""
        return [sys.executable, "-m", "arq", "pyworker.bench.peers.arq_app.WorkerSettings"]

    def connect(self, settings: AppSettings) -> Client:
        """Return its client."""
        return ArqClient(settings, self._payload)


class ArqClient(AsyncHandleClient):
    """Sends by ``pool.enqueue_job``."""

    def __init__(self, settings: AppSettings, payload: str) -> None:
        super().__init__(settings, payload)
        address = RedisSettings.from_dsn(settings.broker_url)
        self._pool = self.complete(arq.create_pool(address, default_queue_name=settings.queue))

    async def enqueue_async(self, index: int) -> Any:
        """Send one job."""
        return await self._pool.enqueue_job("bench_task", *self.arguments(index))

    def read(self, handle: Job) -> Any:
        """Read a result without waiting."""

        async def read() -> Any:
            return await handle.result(timeout=1) if await handle.status() is JobStatus.complete else None

        return self.complete(read())

    def wait(self, handle: Job, timeout_s: float) -> Any:
        """Wait as arq does, by polling, more often than its default of twice in a second."""
        return self.complete(handle.result(timeout=timeout_s, poll_delay=_POLL_S))

    def leftovers(self) -> int:
        """Count jobs that are queued or under way."""
        return int(self.complete(self._pool.zcard(self.settings.queue)))

    async def close_async(self) -> None:
        """Close the pool's connections."""
        await self._pool.aclose()
