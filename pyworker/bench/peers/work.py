"""What the bench's tasks do, the same for every library."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

from pyworker.bench.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyworker.bench.settings import AppSettings

_CPU_BLOCK = b"x" * 1024
_CPU_ROUNDS = 1000


def make_work(settings: AppSettings) -> Callable[[int, str], int]:
    """Return the body of the bench's task: record the start, work, return the index."""
    tally = Tally(settings.tally_path, settings.tally_capacity)
    duration_s = settings.duration_s

    def noop(index: int, payload: str) -> int:
        tally.record(index)
        return index

    def sleep(index: int, payload: str) -> int:
        tally.record(index)
        time.sleep(duration_s)
        return index

    def print_line(index: int, payload: str) -> int:
        tally.record(index)
        print(f"Job {index} finished at {time.time()}")
        return index

    def cpu(index: int, payload: str) -> int:
        tally.record(index)
        for _round in range(_CPU_ROUNDS):
            hashlib.sha256(_CPU_BLOCK).digest()
        return index

    if settings.work == "noop":
        return sleep if duration_s else noop
    return {"print": print_line, "cpu": cpu}[settings.work]
