"""taskiq on a Redis list with stored results.

Its broker on a Redis stream, which acknowledges, does not end on SIGTERM: a worker waits for a lock that its fellow
keeps (taskiq-redis 1.2.4). The list broker takes a message off for good before it runs.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import redis
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

from pyworker.bench.machine import distribution_version
from pyworker.bench.peers.async_handles import AsyncHandleClient
from pyworker.bench.peers.work import make_async_work

if TYPE_CHECKING:
    from pyworker.bench.peers.base import Client
    from pyworker.bench.settings import AppSettings

_RESULT_TTL_S = 86400
_POLL_S = 0.0005


def make_broker(settings: AppSettings) -> tuple[Any, Any]:
    """Return a broker and the task that is declared on it."""
    broker: Any = ListQueueBroker(settings.broker_url, queue_name=settings.queue, max_connection_pool_size=200)
    if not settings.ignore_result:
        broker = broker.with_result_backend(RedisAsyncResultBackend(settings.backend_url, result_ex_time=_RESULT_TTL_S))
    work = make_async_work(settings)

    async def task(index: int, payload: str = "") -> int:
        return await work(index, payload)

    return broker, broker.register_task(task, task_name="bench_task")


class TaskiqPeer:
    """``taskiq worker --workers CONCURRENCY`` with its default of 100 tasks at once in each process."""

    name = "taskiq"

    def __init__(self, payload: str) -> None:
        self._payload = payload

    def version(self) -> str:
        """Return taskiq's version."""
        return distribution_version("taskiq") or "-"

    def worker_command(self, settings: AppSettings, concurrency: int, pool: str, loglevel: str) -> list[str]:
        """Return the worker's command."""
        return [
            sys.executable, "-m", "taskiq", "worker", "pyworker.bench.peers.taskiq_app:broker",
            "--workers", str(concurrency), "--log-level", loglevel,
        ]  # fmt: skip

    def connect(self, settings: AppSettings) -> Client:
        """Return its client."""
        return TaskiqClient(settings, self._payload)


class TaskiqClient(AsyncHandleClient):
    """Sends by ``task.kiq``."""

    def __init__(self, settings: AppSettings, payload: str) -> None:
        super().__init__(settings, payload)
        self._broker, self._task = make_broker(settings)
        self._redis = redis.Redis.from_url(settings.broker_url)
        self.complete(self._broker.startup())

    async def enqueue_async(self, index: int) -> Any:
        """Send one message."""
        return await self._task.kiq(*self.arguments(index))

    def read(self, handle: Any) -> Any:
        """Read a result without waiting."""

        async def read() -> Any:
            return (await handle.get_result()).return_value if await handle.is_ready() else None

        return self.complete(read())

    def wait(self, handle: Any, timeout_s: float) -> Any:
        """Wait as taskiq does, by polling, more often than its default of five times in a second."""
        return self.complete(handle.wait_result(check_interval=_POLL_S, timeout=timeout_s)).return_value

    def leftovers(self) -> int:
        """Count queued messages."""
        return int(self._redis.llen(self.settings.queue))

    async def close_async(self) -> None:
        """Close the broker."""
        self._redis.close()
        await self._broker.shutdown()
