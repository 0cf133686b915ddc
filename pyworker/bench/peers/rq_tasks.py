"""The bench's task for RQ, found by its import path."""

from __future__ import annotations

from pyworker.bench.peers.work import make_work
from pyworker.bench.settings import AppSettings

_work = make_work(AppSettings.from_environment())


def task(index: int, payload: str = "") -> int:
    """Run the bench's work."""
    return _work(index, payload)
