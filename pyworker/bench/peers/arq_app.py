"""The bench's application on arq; the worker imports this module."""

from __future__ import annotations

from typing import Any

from arq.connections import RedisSettings

from pyworker.bench.peers.work import make_async_work
from pyworker.bench.settings import AppSettings

_settings = AppSettings.from_environment()
_work = make_async_work(_settings)


async def bench_task(_context: Any, index: int, payload: str = "") -> int:
    """Run the bench's work."""
    return await _work(index, payload)


class WorkerSettings:
    """What ``arq`` reads: everything but these is its default."""

    functions = [bench_task]  # noqa: RUF012 - arq's own form
    queue_name = _settings.queue
    redis_settings = RedisSettings.from_dsn(_settings.broker_url)
    keep_result = 0 if _settings.ignore_result else 86400
