"""Huey with stored results and process workers, on Redis or on a SQLite file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import huey

from pyworker.bench.machine import distribution_version
from pyworker.bench.peers.handles import HandleClient, poll
from pyworker.bench.peers.work import make_work
from pyworker.transport.sqlite_url import is_sqlite_url, parse_sqlite_url

if TYPE_CHECKING:
    from pyworker.bench.peers.base import Client
    from pyworker.bench.settings import AppSettings


def make_task(settings: AppSettings) -> tuple[Any, Any]:
    """Declare the task; returns (huey, task)."""
    if is_sqlite_url(settings.broker_url):
        address = parse_sqlite_url(settings.broker_url, setting="--broker")
        instance: Any = huey.SqliteHuey(
            settings.queue, filename=address.path, fsync=address.durable, results=not settings.ignore_result
        )
    else:
        instance = huey.RedisHuey(settings.queue, url=settings.broker_url, results=not settings.ignore_result)
    work = make_work(settings)

    def task(index: int, payload: str = "") -> int:
        return work(index, payload)

    # Huey stores no None results, and has no others here.
    return instance, instance.task(name="bench_task")(task)


class HueyPeer:
    """``huey_consumer -k process -w CONCURRENCY``.

    On a file ``huey`` is its default, which leaves writing to the system; ``huey-synced`` waits for the disk.
    """

    def __init__(self, name: str, payload: str) -> None:
        self.name = name
        self._payload = payload

    def version(self) -> str:
        """Return Huey's version."""
        return distribution_version("huey") or "-"

    def worker_command(self, settings: AppSettings, concurrency: int, pool: str, loglevel: str) -> list[str]:
        """Return the consumer's command; quiet, as the others are at WARNING."""
        return [
            sys.executable, "-m", "huey.bin.huey_consumer", "pyworker.bench.peers.huey_app.huey",
            "-k", "process", "-w", str(concurrency), "-q",
        ]  # fmt: skip

    def connect(self, settings: AppSettings) -> Client:
        """Return its client."""
        return HueyClient(settings, self._payload)


class HueyClient(HandleClient):
    """Sends by calling the task."""

    def __init__(self, settings: AppSettings, payload: str) -> None:
        super().__init__(settings, payload)
        self._huey, self._task = make_task(settings)

    def enqueue(self, index: int) -> Any:
        """Send one task."""
        return self._task(index, self.payload) if self.payload else self._task(index)

    def read(self, handle: Any) -> Any:
        """Read a result and leave it in the store."""
        return self._huey.result(handle.id, preserve=True)

    def wait(self, handle: Any, timeout_s: float) -> Any:
        """Poll: Huey's own wait begins at 100 ms."""
        return poll(lambda: self.read(handle), timeout_s)

    def leftovers(self) -> int:
        """Count queued tasks."""
        return int(self._huey.pending_count())

    def close(self) -> None:
        """Close the connections."""
        if is_sqlite_url(self.settings.broker_url):
            self._huey.storage.close()
        else:
            self._huey.storage.pool.disconnect()
