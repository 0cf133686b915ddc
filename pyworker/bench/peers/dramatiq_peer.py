"""Dramatiq on Redis or RabbitMQ with stored results."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import ResultMissing, Results
from dramatiq.results.backends import RedisBackend

from pyworker.bench.machine import distribution_version
from pyworker.bench.peers.handles import HandleClient
from pyworker.bench.peers.work import make_work
from pyworker.transport.amqp_url import is_amqp

if TYPE_CHECKING:
    from pyworker.bench.peers.base import Client
    from pyworker.bench.settings import AppSettings


def make_actor(settings: AppSettings) -> Any:
    """Declare the task on a broker of its own."""
    on_rabbitmq = is_amqp(settings.broker_url)
    broker = _rabbitmq_broker(settings.broker_url) if on_rabbitmq else RedisBroker(url=settings.broker_url)
    options: dict[str, Any] = {}
    if not settings.ignore_result:
        broker.add_middleware(Results(backend=RedisBackend(url=settings.backend_url)))
        options["store_results"] = True
    work = make_work(settings)

    def task(index: int, payload: str = "") -> int:
        return work(index, payload)

    return dramatiq.actor(task, actor_name="bench_task", queue_name=settings.queue, broker=broker, **options)


def _rabbitmq_broker(url: str) -> Any:
    # By name: it needs pika, which wants the default virtual host quoted where others take a second slash.
    pikas = f"{url.removesuffix('//')}/%2F" if url.endswith("//") else url
    return import_module("dramatiq.brokers.rabbitmq").RabbitmqBroker(url=pikas)


class DramatiqPeer:
    """``dramatiq -p CONCURRENCY`` with its default of 8 threads in each process."""

    name = "dramatiq"

    def __init__(self, payload: str) -> None:
        self._payload = payload

    def version(self) -> str:
        """Return Dramatiq's version."""
        return distribution_version("dramatiq") or "-"

    def worker_command(self, settings: AppSettings, concurrency: int, pool: str, loglevel: str) -> list[str]:
        """Return the worker's command."""
        return [sys.executable, "-m", "dramatiq", "pyworker.bench.peers.dramatiq_app:broker", "-p", str(concurrency)]

    def connect(self, settings: AppSettings) -> Client:
        """Return its client."""
        return DramatiqClient(settings, self._payload)


class DramatiqClient(HandleClient):
    """Sends by ``actor.send``."""

    def __init__(self, settings: AppSettings, payload: str) -> None:
        super().__init__(settings, payload)
        self._actor = make_actor(settings)

    def enqueue(self, index: int) -> Any:
        """Send one message."""
        return self._actor.send(index, self.payload) if self.payload else self._actor.send(index)

    def read(self, handle: Any) -> Any:
        """Read a result without waiting."""
        try:
            return handle.get_result(backend=self._backend(), block=False)
        except ResultMissing:
            return None

    def wait(self, handle: Any, timeout_s: float) -> Any:
        """Wait as Dramatiq does."""
        return handle.get_result(backend=self._backend(), block=True, timeout=int(timeout_s * 1000))

    def leftovers(self) -> int:
        """Count queued messages."""
        if is_amqp(self.settings.broker_url):
            return int(self._actor.broker.get_queue_message_counts(self.settings.queue)[0])
        return int(self._actor.broker.client.llen(f"dramatiq:{self.settings.queue}"))

    def close(self) -> None:
        """Close the broker."""
        self._actor.broker.close()

    def _backend(self) -> Any:
        return self._actor.broker.get_results_backend()
