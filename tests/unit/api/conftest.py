"""Two applications that look alike: one of ours, one of Celery's, each with a database of the same Redis server."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import celery
import pytest
import redis

import pyworker
from support.redis_server import RedisServer
from support.shared_tasks import shared_tasks_kept

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def own_shared_tasks() -> Iterator[None]:
    """Keep what one test shares with all of Celery's applications from the next."""
    with shared_tasks_kept(begin_with_none=True):
        yield


class Side:
    """An application with what it published.

    Attributes:
        app: the application.
        library: ``pyworker`` or ``celery``: where its ``group``, ``chain`` and signals are.
        tasks: its tasks by short name.
    """

    def __init__(self, library: Any, url: str) -> None:
        self.library = library
        self.app = library.Celery("proj", broker=url, backend=url, set_as_current=False)
        self.tasks = make_tasks(self.app)
        self._client = redis.Redis.from_url(url)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.tasks[name]
        except KeyError:
            raise AttributeError(name) from None

    def published(self) -> list[dict[str, Any]]:
        """Take all messages, the oldest first, with the bodies decoded and the list they lay in."""
        found = []
        for key in sorted(self._client.keys("*")):
            if self._client.type(key) != b"list":
                continue
            while (raw := self._client.rpop(key)) is not None:
                message = json.loads(raw)
                message["body"] = decode_body(message)
                message["key"] = key.decode()
                found.append(message)
        return found

    def close(self) -> None:
        """Close connections."""
        self.app.close()
        self._client.close()


def decode_body(message: dict[str, Any]) -> Any:
    """Return the body as plain data; what is no JSON stays bytes."""
    body = base64.b64decode(message["body"])
    if message["content-type"] == "application/json" and "compression" not in message["headers"]:
        return json.loads(body)
    return body


def make_tasks(app: Any) -> dict[str, Any]:
    """Define the same tasks in any application."""

    @app.task(name="proj.add", shared=False)
    def add(x: Any, y: Any = 0) -> Any:
        return x + y

    @app.task(name="proj.mul", shared=False, priority=3, time_limit=20, soft_time_limit=10)
    def mul(x: Any, y: Any) -> Any:
        return x * y

    @app.task(name="proj.log", shared=False, ignore_result=True)
    def log(*args: Any, **kwargs: Any) -> None: ...

    @app.task(name="proj.late", shared=False, expires=60, queue="late")
    def late() -> None: ...

    return {"add": add, "mul": mul, "log": log, "late": late}


@pytest.fixture(scope="module")
def shared_server() -> Iterator[RedisServer]:
    """One private Redis server for a module."""
    with RedisServer() as running:
        yield running


@pytest.fixture
def ours(shared_server: RedisServer) -> Iterator[Side]:
    """Our side."""
    shared_server.client.flushall()
    side = Side(pyworker, shared_server.url_with("", 1))
    yield side
    side.close()


@pytest.fixture
def stock(shared_server: RedisServer) -> Iterator[Side]:
    """Celery's side."""
    side = Side(celery, shared_server.url_with("", 2))
    yield side
    consumer = side.app.backend.result_consumer
    consumer.stop()
    # Results that are collected later would take leave of a server that is gone.
    consumer._pubsub = None
    side.close()
