"""A process that may end, told from a later one that got its number."""

from __future__ import annotations


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


def _started_ticks(pid: int) -> str | None:
    """When the process started, in clock ticks since boot; ``None`` when it has ended (proc(5), ``stat``)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The command's name, in brackets, may hold anything.
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else fields[19]
