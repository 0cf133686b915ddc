"""A broker of any kind, a worker on it and the client side of one application."""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery import Celery

from support.kinds import FAST
from support.shared_tasks import shared_tasks_kept
from support.waiting import eventually
from support.worker import APPS, WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType

    from support.transports import Transport

DEADLINE_S = 90.0


class ConformanceStage:
    """The suite's app on one transport; results and what tasks write down are in files.

    Args:
        transport: the broker.
        options: worker options.
    """

    def __init__(self, transport: Transport, options: tuple[str, ...] = ("-c", "2")) -> None:
        self.transport = transport
        self._options = options
        self._stack = ExitStack()
        self._workers: list[WorkerProcess] = []
        self.module: Any = None

    def open(self) -> ConformanceStage:
        """Start the servers and load the app; no worker yet."""
        with ExitStack() as stack:
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            (self._folder / "results").mkdir()
            (self._folder / "notes").mkdir()
            self.place = self.transport.start(stack)
            results = f"file://{self._folder}/results"
            if self.transport.library == "pyworker":
                results = f"sqlite:///{self._folder}/results.db"
            self._backend = results
            self._environment = {
                "TEST_NOTES_DIR": str(self._folder / "notes"),
                "TEST_SETTINGS": json.dumps(self.place.settings),
                "TEST_TRANSPORT": self.place.transport,
                "TEST_LIBRARY": self.transport.library,
                **self.place.environment,
            }
            with _environment({**self._environment, "TEST_BROKER_URL": self.place.url, "TEST_RESULT_BACKEND": results}):
                self.module, self.notebook = _fresh("carried"), sys.modules["notes"]
            self._stack = stack.pop_all()
        return self

    def close(self) -> None:
        """End the workers, the client and the servers."""
        for worker in reversed(self._workers):
            worker.close()
        if self.module is not None:
            with _environment(self._environment):
                self.app.close()
        self._stack.close()

    @property
    def app(self) -> Any:
        """The client's application."""
        return self.module.app

    def stock_app(self) -> Any:
        """Return a new ``celery.Celery`` of the same broker, without tasks."""
        app = Celery("monitor", broker=self.place.url, set_as_current=False)
        app.conf.update(self.place.settings)
        if self.place.transport:
            app.conf.broker_transport = self.place.transport
        return app

    def start_worker(self, *options: str, app: str = "carried") -> WorkerProcess:
        """Start a further worker; it ends with the stage."""
        worker = WorkerProcess(
            FAST, app, broker=self.place.url, backend=self._backend, options=(*self._options, *options),
            environment=self._environment,
        )  # fmt: skip
        self._workers.append(worker)
        return worker.start(deadline_s=DEADLINE_S)

    def call(self, name: str, *args: Any, **options: Any) -> Any:
        """Send a task; returns its result object."""
        with _environment(self.place.environment):
            return getattr(self.module, name).apply_async(args, **options)

    def get(self, result: Any, deadline_s: float = DEADLINE_S) -> Any:
        """Wait for a result."""
        return result.get(timeout=deadline_s, interval=0.02)

    def wait_for_notes(self, name: str, count: int) -> list[dict[str, Any]]:
        """Return what tasks wrote down, once there are so many entries."""

        def enough() -> list[dict[str, Any]]:
            entries: list[dict[str, Any]] = self.notebook.notes(name)
            assert len(entries) >= count, f"{len(entries)} of {count} entries: {entries}"
            return entries

        return eventually(enough, deadline_s=DEADLINE_S, what=f"{count} notes of {name}")

    def waiting(self, queue: str) -> int:
        """Return how many messages wait in a queue, by the transport's own count."""
        with _environment(self.place.environment), self.app.connection_for_write() as connection:
            channel = connection.channel()
            try:
                return int(channel.queue_declare(queue, passive=True).message_count)
            finally:
                channel.close()

    def describe(self) -> None:
        """Print what the workers said, for a failure's report."""
        for worker in self._workers:
            print(f"--- output of worker {worker.description}", *worker.lines[-80:], sep="\n")


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _fresh(name: str) -> ModuleType:
    """Import a module of ``tests/apps`` and its notebook afresh, its tasks bound to its own app alone."""
    if str(APPS) not in sys.path:
        sys.path.insert(0, str(APPS))
    with shared_tasks_kept():
        for each in (name, "notes"):
            sys.modules.pop(each, None)
        module = importlib.import_module(name)
        module.app.finalize()
        # Settings are read when they are first asked for: now, while the environment is set.
        assert module.app.conf.broker_url
        return module
