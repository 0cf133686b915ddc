"""Calls functions at intervals from one thread, which exists only while there is something to call."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

logger = logging.getLogger("celery.worker")


class Repetition:
    """One function that is called again and again; ``cancel`` ends that."""

    def __init__(self, interval_s: float, call: Callable[[], Any]) -> None:
        self.interval_s = interval_s
        self.call = call
        self.due_s = time.monotonic() + interval_s
        self.is_cancelled = False

    def cancel(self) -> None:
        """Never call it again."""
        self.is_cancelled = True


class Repeater:
    """The thread and what it calls. An exception of a function is logged; the function is called again."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._news = threading.Condition()
        self._repetitions: list[Repetition] = []
        self._thread: threading.Thread | None = None
        self._is_stopped = False

    def call_repeatedly(
        self,
        interval_s: float,
        call: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Repetition:
        """Call a function every ``interval_s`` seconds, for the first time after one interval."""
        repetition = Repetition(float(interval_s), lambda: call(*args, **(kwargs or {})))
        with self._news:
            self._repetitions.append(repetition)
            if self._thread is None and not self._is_stopped:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._news.notify()
        return repetition

    def stop(self, *, deadline_s: float = 2.0) -> None:
        """End the thread; a call in progress gets until the deadline. Idempotent."""
        with self._news:
            self._is_stopped = True
            self._news.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(deadline_s)

    def _run(self) -> None:
        while (repetition := self._next()) is not None:
            try:
                repetition.call()
            except Exception:
                logger.exception("A repeated call failed")

    def _next(self) -> Repetition | None:
        """Wait for the next one that is due; ``None`` at the end."""
        with self._news:
            while not self._is_stopped:
                self._repetitions = [each for each in self._repetitions if not each.is_cancelled]
                first = min(self._repetitions, key=lambda each: each.due_s, default=None)
                left_s = None if first is None else first.due_s - time.monotonic()
                if first is not None and left_s is not None and left_s <= 0:
                    # What a long call or a suspended machine made us miss is not made up for.
                    first.due_s = max(first.due_s + first.interval_s, time.monotonic())
                    return first
                self._news.wait(left_s)
            return None
