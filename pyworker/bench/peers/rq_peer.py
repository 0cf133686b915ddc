"""RQ with its default worker, which forks for every job."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import redis
import rq

from pyworker.bench.machine import distribution_version
from pyworker.bench.peers.handles import HandleClient, poll

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyworker.bench.peers.base import Client
    from pyworker.bench.settings import AppSettings

_TASK = "pyworker.bench.peers.rq_tasks.task"
_RESULT_TTL_S = 86400


class RqPeer:
    """``rq worker-pool -n CONCURRENCY``."""

    name = "rq"

    def __init__(self, payload: str) -> None:
        self._payload = payload

    def version(self) -> str:
        """Return RQ's version."""
        return distribution_version("rq") or "-"

    def worker_command(self, settings: AppSettings, concurrency: int, pool: str, loglevel: str) -> list[str]:
        """Return the pool's command."""
        return [
            sys.executable, "-m", "rq.cli", "worker-pool", settings.queue, "-u", settings.broker_url,
            "-n", str(concurrency), "-q",
        ]  # fmt: skip

    def connect(self, settings: AppSettings) -> Client:
        """Return its client."""
        return RqClient(settings, self._payload)


class RqClient(HandleClient):
    """Sends by ``Queue.enqueue`` and ``Queue.enqueue_many``."""

    def __init__(self, settings: AppSettings, payload: str) -> None:
        super().__init__(settings, payload)
        self._connection = redis.Redis.from_url(settings.broker_url)
        self._queue = rq.Queue(settings.queue, connection=self._connection)
        self._ttl_s = 0 if settings.ignore_result else _RESULT_TTL_S

    def _arguments(self, index: int) -> tuple[Any, ...]:
        return (index, self.payload) if self.payload else (index,)

    def enqueue(self, index: int) -> Any:
        """Send one job."""
        return self._queue.enqueue(_TASK, args=self._arguments(index), result_ttl=self._ttl_s)

    def send_many(self, indexes: Sequence[int]) -> None:
        """Send jobs in one pipeline for each thousand."""
        for start in range(0, len(indexes), 1000):
            chunk = indexes[start : start + 1000]
            data = [rq.Queue.prepare_data(_TASK, args=self._arguments(i), result_ttl=self._ttl_s) for i in chunk]
            for index, job in zip(chunk, self._queue.enqueue_many(data), strict=True):
                self.keep(index, job)

    def read(self, handle: Any) -> Any:
        """Read the newest result."""
        return handle.return_value(refresh=True)

    def wait(self, handle: Any, timeout_s: float) -> Any:
        """Poll: RQ has no wait of its own."""
        return poll(lambda: self.read(handle), timeout_s)

    def leftovers(self) -> int:
        """Count queued jobs."""
        return int(self._queue.count)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
