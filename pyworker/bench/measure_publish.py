"""Publishing: how fast the library's client sends tasks, one at a time and in a batch."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyworker.bench.peers.base import Client


def measure_one_by_one(client: Client, indexes: Sequence[int]) -> float:
    """Return tasks per second of a plain loop."""
    begun = time.monotonic()
    for index in indexes:
        client.send(index)
    return len(indexes) / (time.monotonic() - begun)


def measure_batch(client: Client, indexes: Sequence[int]) -> float:
    """Return tasks per second of the library's way to send many."""
    begun = time.monotonic()
    client.send_many(indexes)
    return len(indexes) / (time.monotonic() - begun)
