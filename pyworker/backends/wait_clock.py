"""The clock of one wait for results: when it is over, and when its next interval begins."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pyworker.exceptions import TimeoutError

#: How often ``on_interval`` is called, and results are read again although nothing was announced.
INTERVAL_S = 1.0
#: How often a lost connection is opened again before giving up (Celery's policy: 20 times, a second apart).
RECONNECTIONS = 20
RECONNECTION_PAUSE_S = 1.0


class WaitClock:
    """Counts from the moment it is made.

    Args:
        timeout_s: how long the wait may last; ``None`` for ever.
        on_interval: called whenever an interval ends.
        interval_s: how long an interval is.
    """

    def __init__(
        self, timeout_s: float | None, on_interval: Callable[[], Any] | None, interval_s: float = INTERVAL_S
    ) -> None:
        now = time.monotonic()
        self._deadline = None if timeout_s is None else now + timeout_s
        self._on_interval = on_interval
        self._interval_s = interval_s
        self._interval_end = now + interval_s

    def is_over(self) -> bool:
        """Whether the wait has lasted as long as it may."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def require_time(self) -> None:
        """Do nothing while there is time left.

        Raises:
            TimeoutError: the wait is over.
        """
        if self.is_over():
            raise TimeoutError("The operation timed out.")

    def begin_interval(self) -> None:
        """Begin a new interval now."""
        self._interval_end = time.monotonic() + self._interval_s

    def tick(self) -> bool:
        """Call ``on_interval`` and begin a new interval if the present one has ended; tells whether it had."""
        if time.monotonic() < self._interval_end:
            return False
        if self._on_interval is not None:
            self._on_interval()
        self.begin_interval()
        return True

    def step_s(self) -> float:
        """How long to wait for news before looking at this clock again."""
        return self.bounded_s(max(0.0, self._interval_end - time.monotonic()))

    def bounded_s(self, pause_s: float) -> float:
        """What is left of a pause when it ends with the wait."""
        return pause_s if self._deadline is None else max(0.0, min(pause_s, self._deadline - time.monotonic()))
