"""The brokers of the conformance suite: where the messages are, how a worker is run there, what can be counted."""

from __future__ import annotations

import shutil
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyworker.contrib.testing.worker import start_worker
from pyworker.identifiers import uuid
from pyworker.transport.sqlite_file import discard_file, open_file
from pyworker.transport.sqlite_url import parse_sqlite_url, url_of
from support.kinds import Kind
from support.redis_server import RedisServer
from support.waiting import eventually
from support.worker import APPS, WorkerProcess

if TYPE_CHECKING:
    from types import SimpleNamespace

#: In the names of queues for the answers of remote control.
_REPLIES = "pidbox"
WORKER = Kind("pyworker", (sys.executable, "-m", "pyworker"), "fast")


@dataclass
class RunningWorker:
    """A worker of a place; concurrency 1."""

    node_name: str
    #: Asks for a warm shutdown and returns at once.
    ask_to_stop: Callable[[], None]
    #: Waits for the end; the exit code.
    wait: Callable[[], int]


class Place(ABC):
    """One broker with the application's producer side."""

    #: A waiting message of the first goes before one of the second.
    urgent, plain = 0, 3

    def __init__(self, url: str) -> None:
        self.url = url
        if str(APPS) not in sys.path:
            sys.path.insert(0, str(APPS))
        self.names: SimpleNamespace = import_module("conforming").make(url, url)

    @abstractmethod
    def counts(self) -> tuple[int, int]:
        """Return how many messages wait and how many are held, in all queues of tasks."""

    @contextmanager
    def worker(
        self, name: str, *, queue: str = "conforming", multiplier: int = 4, visibility_timeout_s: float = 3600.0
    ) -> Iterator[RunningWorker]:
        """Run a worker for the time of a ``with`` block."""
        with self.process(
            name, queue=queue, multiplier=multiplier, visibility_timeout_s=visibility_timeout_s
        ) as process:

            def ask_to_stop() -> None:
                process.send(15)

            yield RunningWorker(process.node_name, ask_to_stop, process.wait)

    def process(
        self, name: str, *, queue: str = "conforming", multiplier: int = 4, visibility_timeout_s: float = 3600.0
    ) -> WorkerProcess:
        """Return a worker in a process of its own, not started."""
        return WorkerProcess(
            WORKER,
            "conforming",
            broker=self.process_url,
            options=("-c", "1", "-n", f"{name}@here", "-Q", queue, "--prefetch-multiplier", str(multiplier)),
            environment={"TEST_VISIBILITY_TIMEOUT": str(visibility_timeout_s)},
        )

    @property
    def process_url(self) -> str:
        """Where another process finds the broker."""
        return self.url

    def wait_until_settled(self) -> None:
        """Return when nothing waits and nothing is held."""
        eventually(lambda: self.counts() == (0, 0), deadline_s=60, what="nothing waits and nothing is held")

    def close(self) -> None:
        """End everything that belongs to the place."""
        self.names.app.close()


class RedisPlace(Place):
    """A private server."""

    def __init__(self) -> None:
        self._server = RedisServer().start()
        super().__init__(self._server.url)

    def counts(self) -> tuple[int, int]:
        client = self._server.client
        lists = (key for key in client.scan_iter(count=1000, _type="list") if _REPLIES not in key)
        waiting = sum(client.llen(key) for key in lists)
        return waiting, client.hlen("unacked")

    def close(self) -> None:
        super().close()
        self._server.close()


class SqlitePlace(Place):
    """A file in a folder of its own."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="pyworker-place-"))
        super().__init__(f"sqlite:///{self._folder}/queue.db")

    def counts(self) -> tuple[int, int]:
        file = open_file(parse_sqlite_url(self.url, setting="test"), setting="test")
        queues = [queue for queue in file.queues() if _REPLIES not in queue[0]]
        return sum(ready + scheduled for _, ready, scheduled, _ in queues), sum(held for *_, held in queues)

    def close(self) -> None:
        super().close()
        discard_file(parse_sqlite_url(self.url, setting="test"))
        shutil.rmtree(self._folder)


class MemoryPlace(SqlitePlace):
    """``memory://``: producers and workers in this process."""

    def __init__(self) -> None:
        Place.__init__(self, f"memory://{uuid()}")

    @contextmanager
    def worker(
        self, name: str, *, queue: str = "conforming", multiplier: int = 4, visibility_timeout_s: float = 3600.0
    ) -> Iterator[RunningWorker]:
        """Run a worker in a thread for the time of a ``with`` block."""
        stack = ExitStack()
        with stack:
            # As everywhere, an app of its own for each worker.
            app = import_module("conforming").make(self.url, self.url).app
            opened: AbstractContextManager[Any] = start_worker(
                app, hostname=f"{name}@here", queues=queue, prefetch_multiplier=multiplier,
                perform_ping_check=False, shutdown_timeout=60.0,
            )  # fmt: skip
            worker = stack.enter_context(opened)

            def wait() -> int:
                stack.close()
                return worker.exit_code

            yield RunningWorker(worker.hostname, worker.request_shutdown, wait)

    @property
    def process_url(self) -> str:
        """The same file by its own name: a child of this process would find it as ``memory://``."""
        return url_of(parse_sqlite_url(self.url, setting="test"))

    def close(self) -> None:
        Place.close(self)
        discard_file(parse_sqlite_url(self.url, setting="test"))


_CLASSES: dict[str, type[Place]] = {"on-redis": RedisPlace, "on-sqlite": SqlitePlace, "on-memory": MemoryPlace}


def open_place(name: str) -> Place:
    """Return one of ``support.kinds.PLACES``, to be closed."""
    return _CLASSES[name]()
