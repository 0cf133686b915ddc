"""The client side of libraries whose own client is asynchronous (arq, SAQ, taskiq)."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

from pyworker.bench.peers.handles import HandleClient

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from pyworker.bench.settings import AppSettings

Value = TypeVar("Value")
#: Messages that are sent concurrently; each of these libraries has a pool of connections.
_BATCH = 100


class AsyncHandleClient(HandleClient):
    """Runs the library's coroutines in an event loop of its own, one call after the other."""

    def __init__(self, settings: AppSettings, payload: str) -> None:
        super().__init__(settings, payload)
        self._loop = asyncio.new_event_loop()

    def complete(self, work: Coroutine[Any, Any, Value]) -> Value:
        """Run a coroutine to its end."""
        return self._loop.run_until_complete(work)

    def arguments(self, index: int) -> tuple[Any, ...]:
        """Return the task's arguments."""
        return (index, self.payload) if self.payload else (index,)

    @abstractmethod
    async def enqueue_async(self, index: int) -> Any:
        """Send one task and return its handle."""

    @abstractmethod
    async def close_async(self) -> None:
        """Close the connections."""

    def enqueue(self, index: int) -> Any:
        """Send one task and wait until the broker has it."""
        return self.complete(self.enqueue_async(index))

    def send_many(self, indexes: Sequence[int]) -> None:
        """Send concurrently: none of these libraries has a call for a batch of tasks."""

        async def send(chunk: Sequence[int]) -> list[Any]:
            return list(await asyncio.gather(*(self.enqueue_async(index) for index in chunk)))

        for start in range(0, len(indexes), _BATCH):
            chunk = indexes[start : start + _BATCH]
            for index, handle in zip(chunk, self.complete(send(chunk)), strict=True):
                self.keep(index, handle)

    def close(self) -> None:
        """Close the connections and the loop."""
        self.complete(self.close_async())
        self._loop.close()
