"""A process that may end, told from a later one that got its number."""

from __future__ import annotations

import os

from pyworker.process_stat import stat_fields


class Process:
    """The process that has this number now.

    Args:
        pid: its number.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._started_ticks = _started_ticks(pid)

    @property
    def is_alive(self) -> bool:
        """Whether it still runs. A zombie does not: the first process of a container may reap nobody."""
        return self._started_ticks is not None and _started_ticks(self.pid) == self._started_ticks

    def send(self, number: int) -> bool:
        """Send a signal; false if there is no process that could get it."""
        try:
            os.kill(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return False  # gone, or the number is another user's process by now
        return True


def _started_ticks(pid: int) -> str | None:
    """When the process started, in clock ticks since boot; ``None`` when it has ended."""
    fields = stat_fields(pid)
    return None if fields is None or fields[0] in ("Z", "X") else fields[19]
