"""The client side shared by libraries that give a handle for each sent task (Dramatiq, Huey, RQ)."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from pyworker.bench.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyworker.bench.settings import AppSettings

_DEADLINE_S = 30.0


class HandleClient(ABC):
    """Keeps the handle of every task; subclasses say how to send one and how to read its result."""

    def __init__(self, settings: AppSettings, payload: str) -> None:
        self.settings = settings
        self.payload = payload
        self._handles: dict[int, Any] = {}
        #: Tasks whose result was seen; a stored result is not asked for again.
        self._seen: set[int] = set()

    @abstractmethod
    def enqueue(self, index: int) -> Any:
        """Send one task and return its handle."""

    @abstractmethod
    def read(self, handle: Any) -> Any:
        """Return the stored result, None if there is none yet."""

    @abstractmethod
    def wait(self, handle: Any, timeout_s: float) -> Any:
        """Wait for a result by the library's own means."""

    @abstractmethod
    def leftovers(self) -> int:
        """Count the messages that the broker still holds."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections."""

    def send(self, index: int) -> None:
        """Send one task."""
        self._handles[index] = self.enqueue(index)

    def send_many(self, indexes: Sequence[int]) -> None:
        """Send one by one; libraries with a batch call override this."""
        for index in indexes:
            self.send(index)

    def preload(self, indexes: Sequence[int]) -> None:
        """Fill the queue with the library's client."""
        self.send_many(indexes)

    def keep(self, index: int, handle: Any) -> None:
        """Remember the handle of a task that was sent in a batch."""
        self._handles[index] = handle

    def round_trip(self, index: int) -> None:
        """Send one task and wait for its result."""
        self.send(index)
        value = self.wait(self._handles[index], _DEADLINE_S)
        if value != index:
            raise BenchError(f"task {index} returned {value!r}")

    def stored(self, first: int, stop: int) -> int | None:
        """Count the results that can be read."""
        if self.settings.ignore_result:
            return None
        for index in range(stop - 1, first - 1, -1):
            if index not in self._seen:
                if self.read(self._handles[index]) is None:
                    break
                self._seen.add(index)
        return sum(index in self._seen for index in range(first, stop))

    def check(self, first: int, stop: int) -> list[str]:
        """Compare every stored result."""
        if self.settings.ignore_result:
            return []
        return [
            f"task {index}: stored {value!r}"
            for index in range(first, stop)
            if (value := self.read(self._handles[index])) != index
        ][:20]


def poll(read: Any, timeout_s: float) -> Any:
    """Wait for a result of a library that has no waiting call but one with a fixed interval."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = read()
        if value is not None:
            return value
        time.sleep(0.0005)
    return None
