"""Grows the pool while tasks wait and shrinks it when they do not: ``--autoscale`` of our own app."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from pyworker.worker.repeater import Repeater

if TYPE_CHECKING:
    from pyworker._native import Engine

logger = logging.getLogger("celery.worker.autoscale")

_LOOK_S = 1.0
#: How long the pool stays large after it was last needed; ``AUTOSCALE_KEEPALIVE`` changes it.
KEEPALIVE_S = float(os.environ.get("AUTOSCALE_KEEPALIVE") or 30)


class Autoscaler:
    """Looks every second how many tasks there are. ``worker_autoscaler`` may name a subclass.

    Args:
        engine: the node's engine.
        max_concurrency, min_concurrency: bounds of the pool.
        keepalive_s: seconds without need before the pool shrinks.
    """

    def __init__(
        self, engine: Engine, max_concurrency: int, min_concurrency: int = 0, *, keepalive_s: float = KEEPALIVE_S
    ) -> None:
        self.engine = engine
        self.max_concurrency = max_concurrency
        self.min_concurrency = min_concurrency
        self.keepalive_s = keepalive_s
        self._needed_at_s: float | None = None
        self._received = 0
        self._lock = threading.Lock()
        self._repeater = Repeater("pyworker-autoscaler")

    @property
    def qty(self) -> int:
        """Tasks that run or wait for the pool."""
        counters = self.engine.counters()
        # An engine that has stopped counts nothing.
        received = counters.get("received", self._received)
        if received != self._received:
            self._received = received
            self._needed_at_s = time.monotonic()
        return counters.get("pending", 0)

    @property
    def processes(self) -> int:
        """Children that are wanted."""
        return self.engine.counters().get("pool_size", self.min_concurrency)

    def start(self) -> None:
        """Begin to look."""
        self._repeater.call_repeatedly(_LOOK_S, self.maybe_scale)

    def stop(self) -> None:
        """Look no more."""
        self._repeater.stop()

    def maybe_scale(self) -> None:
        """Grow or shrink, if that is called for."""
        with self._lock:
            wanted, present = self.qty, self.processes
            if min(wanted, self.max_concurrency) > present:
                self.scale_up(min(wanted, self.max_concurrency) - present)
            elif max(wanted, self.min_concurrency) < present:
                self.scale_down(present - max(wanted, self.min_concurrency))

    def scale_up(self, count: int) -> None:
        """Add children."""
        self._needed_at_s = time.monotonic()
        logger.info("Scaling up %s processes.", count)
        self.engine.grow(count)

    def scale_down(self, count: int) -> None:
        """Let children go, unless they were needed a moment ago."""
        if self._needed_at_s is not None and time.monotonic() - self._needed_at_s > self.keepalive_s:
            logger.info("Scaling down %s processes.", count)
            self.engine.shrink(count)

    def update(self, max_concurrency: int | None = None, min_concurrency: int | None = None) -> tuple[int, int]:
        """Change the bounds; returns them."""
        with self._lock:
            present = self.processes
            if max_concurrency is not None:
                if max_concurrency < present:
                    self.engine.shrink(present - max_concurrency)
                self.max_concurrency = max_concurrency
            if min_concurrency is not None:
                if min_concurrency > present:
                    self.engine.grow(min_concurrency - present)
                self.min_concurrency = min_concurrency
            return self.max_concurrency, self.min_concurrency

    def info(self) -> dict[str, Any]:
        """Return what ``inspect stats`` shows."""
        return {
            "max": self.max_concurrency,
            "min": self.min_concurrency,
            "current": self.processes,
            "qty": self.qty,
        }


def bounds(text: str) -> tuple[int, int]:
    """Read ``max,min``; the lower bound may be left out.

    Raises:
        ValueError: it is neither.
    """
    highest, _, lowest = text.partition(",")
    upper, lower = int(highest), int(lowest) if lowest else 0
    if upper < 1 or lower < 0 or lower > upper:
        raise ValueError(f"--autoscale={text}: give max,min with max at least 1 and min at most max")
    return upper, lower
