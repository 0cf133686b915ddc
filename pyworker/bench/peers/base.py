"""What the bench asks of a task library under test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyworker.bench.settings import AppSettings


class Client(Protocol):
    """Sends the bench's tasks through one library and checks what came of them.

    Task number ``index`` records itself in the tally and returns ``index``.
    """

    def send(self, index: int) -> None:
        """Send one task as a web request would: by the library's client, waiting for the broker."""

    def send_many(self, indexes: Sequence[int]) -> None:
        """Send a batch by the library's own means for that, or one by one where it has none."""

    def preload(self, indexes: Sequence[int]) -> None:
        """Fill the queue as fast as possible with messages equal to those of ``send``; not measured."""

    def round_trip(self, index: int) -> None:
        """Send one task and wait for its result.

        Raises:
            BenchError: the result is not ``index``.
        """

    def stored(self, first: int, stop: int) -> int | None:
        """Return how many results of the tasks ``first`` to ``stop`` are stored; None if that cannot be told."""

    def check(self, first: int, stop: int) -> list[str]:
        """Read every stored result of these tasks and return what is wrong with them."""

    def leftovers(self) -> int:
        """Return the number of messages that the broker still holds, delivered but unacknowledged ones included."""

    def close(self) -> None:
        """Close the connections."""


class Peer(Protocol):
    """A worker under test."""

    name: str

    def version(self) -> str:
        """Return the library's version."""

    def worker_command(self, settings: AppSettings, concurrency: int, pool: str, loglevel: str) -> list[str]:
        """Return the command that starts the worker; its environment carries the settings."""

    def connect(self, settings: AppSettings) -> Client:
        """Return a client; ``settings`` name the broker as the client reaches it."""
