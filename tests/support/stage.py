"""A server, a worker and the client side of one app: what most tests stand on."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from support.redis_server import RedisServer
from support.shared_tasks import shared_tasks_kept
from support.waiting import eventually
from support.worker import APPS, WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import ModuleType, TracebackType

    from typing_extensions import Self

    from support.kinds import Kind


def load_app(name: str, *, broker: str, backend: str | None = None) -> ModuleType:
    """Import a module of ``tests/apps`` afresh, as a producer process of its own would, bound to these servers.

    Celery's tasks are shared between the apps of a process by default; here each app keeps its own.
    """
    if str(APPS) not in sys.path:
        sys.path.insert(0, str(APPS))
    values = {"TEST_BROKER_URL": broker, "TEST_RESULT_BACKEND": backend or broker, "TEST_LANE": "producer"}
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        with shared_tasks_kept():
            sys.modules.pop(name, None)
            module = importlib.import_module(name)
            # Settings are read lazily by Celery: read them while the environment is set.
            module.app.finalize()
        assert module.app.conf.broker_url == broker
        return module
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def _lists_of(queue: str) -> list[str]:
    """Return the lists of a queue, one a priority step."""
    return [queue, *(f"{queue}\x06\x16{step}" for step in (3, 6, 9))]


class Stage:
    """One Redis server, workers on it and the app as its producers see it.

    Args:
        kind: the worker engine and lane.
        app: a module of ``tests/apps``.
        options: worker options.
        environment: further environment variables of the worker.
        server: a running server to share; a private one by default.
        has_notebook: keep journals, counts and gates on a second server, where the broker is what breaks.
    """

    def __init__(
        self,
        kind: Kind,
        app: str = "tasks",
        *,
        options: Iterable[str] = ("-c", "2"),
        environment: Mapping[str, str] | None = None,
        server: RedisServer | None = None,
        loglevel: str = "INFO",
        has_notebook: bool = False,
    ) -> None:
        self.kind = kind
        self.app_name = app
        self._options = tuple(options)
        self._environment = dict(environment or {})
        self._owned = RedisServer() if server is None else None
        self.server = server or self._owned or RedisServer()
        self._loglevel = loglevel
        self._notebook = RedisServer() if has_notebook else None
        self._workers: list[WorkerProcess] = []
        self._module: ModuleType | None = None

    # -- parts

    @property
    def tasks(self) -> Any:
        """The app's module on the producer's side."""
        assert self._module is not None
        return self._module

    @property
    def app(self) -> Any:
        """The producer's Celery app."""
        return self.tasks.app

    @property
    def worker(self) -> WorkerProcess:
        """The worker started last."""
        return self._workers[-1]

    @property
    def redis(self) -> Any:
        """A client of the server."""
        return self.server.client

    @property
    def notes(self) -> Any:
        """A client of the server that holds what tasks wrote down."""
        return (self._notebook or self.server).client

    def new_worker(self, kind: Kind | None = None, **changes: Any) -> WorkerProcess:
        """Return a further worker of the same app, not started; it ends with the stage."""
        settings: dict[str, Any] = {
            "broker": self.server.url,
            "options": self._options,
            "environment": self._environment,
            "loglevel": self._loglevel,
        }
        settings |= changes
        worker = WorkerProcess(kind or self.kind, self.app_name, **settings)
        self._workers.append(worker)
        return worker

    # -- life

    def open(self, *, has_worker: bool = True) -> Self:
        """Start the server if it is ours, load the app and, by default, start a worker."""
        if self._owned is not None:
            self._owned.start()
        if self._notebook is not None:
            self._notebook.start()
            self._environment["TEST_JOURNAL_URL"] = self._notebook.url
        self._module = load_app(self.app_name, broker=self.server.url)
        if has_worker:
            self.new_worker().start()
        return self

    def close(self) -> None:
        """End the workers, the producer's connections and the server if it is ours."""
        for worker in reversed(self._workers):
            worker.close()
        if self._module is not None:
            backend = self.app.backend
            if hasattr(backend, "result_consumer"):
                backend.result_consumer.stop()
                # Results that live longer than the stage have nothing to unsubscribe from.
                backend.result_consumer.subscribed_to.clear()
                # Older Celery unsubscribes whether it has subscribed or not.
                backend.result_consumer._pubsub = None
                backend.client.connection_pool.disconnect()
            self.app.close()
        if self._owned is not None:
            self._owned.close()
        if self._notebook is not None:
            self._notebook.close()

    def __enter__(self) -> Self:
        try:
            return self.open()
        except BaseException:
            self.describe()
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.describe()
        self.close()

    def describe(self) -> None:
        """Print what the workers said and what lies in the server, for a failure's report."""
        for worker in self._workers:
            print(f"--- output of worker {worker.description}", *worker.lines[-60:], sep="\n")
        print("--- keys of the server", self.server.summary(), sep="\n")

    # -- what the tasks wrote down

    def journal(self, name: str) -> list[dict[str, Any]]:
        """Return what tasks recorded under a name, in order (see ``apps/journal.py``)."""
        return [json.loads(entry) for entry in self.notes.lrange(f"journal:{name}", 0, -1)]

    def wait_for_journal(self, name: str, count: int, *, deadline_s: float = 20.0) -> list[dict[str, Any]]:
        """Return the record once it has at least ``count`` entries."""

        def enough() -> list[dict[str, Any]]:
            entries = self.journal(name)
            assert len(entries) >= count, f"{len(entries)} of {count} entries: {entries}"
            return entries

        return eventually(enough, deadline_s=deadline_s, what=f"{count} entries of journal {name}")

    def open_gate(self, name: str, times: int = 1) -> None:
        """Let tasks that wait at a gate go on (see ``apps/journal.py``)."""
        self.notes.rpush(f"gate:{name}", *["go"] * times)

    def queue_length(self, name: str = "celery") -> int:
        """Return how many messages wait in a queue, all priorities together."""
        return sum(int(self.redis.llen(each)) for each in _lists_of(name))

    def unacked(self) -> int:
        """Return how many messages are held by workers."""
        return int(self.redis.hlen("unacked"))

    def wait_until_drained(self, name: str = "celery", *, deadline_s: float = 30.0) -> None:
        """Return when the queue is empty and nothing is held, both at one instant: a dead node's messages go back."""

        def is_drained() -> bool:
            with self.redis.pipeline(transaction=True) as transaction:
                for each in _lists_of(name):
                    transaction.llen(each)
                left = transaction.hlen("unacked").execute()
            assert not any(left), f"{sum(left[:-1])} wait, {left[-1]} are held"
            return True

        eventually(is_drained, deadline_s=deadline_s, what=f"{name} drained")
