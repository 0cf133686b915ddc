"""The time of ``memory://``, for tests that do not want to wait."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from pyworker.exceptions import ImproperlyConfigured
from pyworker.transport.sqlite_file import open_file
from pyworker.transport.sqlite_url import parse_sqlite_url

if TYPE_CHECKING:
    from pyworker.app.base import Celery

__all__ = ["TestClock"]

_MEMORY = "memory://"
#: How often it looks although nobody rang.
_LOOK_S = 0.25


class TestClock:
    """The clock of an app on ``memory://``: the machine's until it is moved ahead.

    Everybody on the same ``memory://`` sees the same time: publishers, workers, their children. What is due by then
    is started, what has expired by then is not run, results past their time are gone, and what is published from then
    on counts from there. ``time.time()``, time limits and the signs by which nodes know each other to be alive stay
    the machine's.

    Args:
        app: the application; its ``now`` follows the clock from here on.

    Raises:
        ImproperlyConfigured: its broker is not ``memory://``: other brokers have the machine's clock.
    """

    __test__ = False

    def __init__(self, app: Celery) -> None:
        broker = app.conf.broker_url
        if not isinstance(broker, str) or not broker.startswith(_MEMORY):
            raise ImproperlyConfigured(f"broker_url: only memory:// has a clock that can be moved, not {broker!r}")
        urls = {"broker_url": broker}
        store = app.conf.result_backend
        if isinstance(store, str) and store.startswith(_MEMORY):
            urls["result_backend"] = store
        addresses = {parse_sqlite_url(url, setting=setting): setting for setting, url in urls.items()}
        self._files = [open_file(address, setting=setting) for address, setting in addresses.items()]
        app.time_source = self.time

    def time(self) -> float:
        """Return the seconds since the epoch."""
        return time.time() + self._files[0].clock_ahead_s

    def advance(self, by: float | timedelta) -> None:
        """Move the clock ahead.

        Args:
            by: how far; seconds, if it is a number.

        Raises:
            ValueError: it would go back.
        """
        seconds = by.total_seconds() if isinstance(by, timedelta) else float(by)
        if not seconds >= 0:
            raise ValueError(f"a clock is moved ahead, not by {seconds!r} seconds")
        for file in self._files:
            file.move_clock(seconds)

    def wait_for_scheduled(self, count: int = 1, timeout: float = 10.0) -> None:
        """Return when so many messages wait for their time: a retry is on its way only once its task has ended.

        Args:
            count: how many there must be at least, in all queues.
            timeout: seconds to wait.

        Raises:
            TimeoutError: there are fewer.
        """
        file = self._files[0]
        end = time.monotonic() + timeout
        while True:
            # Read the word before looking: what comes in between has changed it.
            seen = file.seen("queues")
            scheduled = sum(waiting for _name, _ready, waiting, _held in file.queues())
            if scheduled >= count:
                return
            left_s = end - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"{scheduled} of {count} messages are scheduled after {timeout} s")
            file.wait("queues", seen, (), min(left_s, _LOOK_S))
