"""Reaping of processes that the parent inherited as a subreaper and that nobody else waits for.

A task may leave a daemon behind; when its child ends, the daemon becomes ours, and a zombie when it exits. The
engine reaps the pool's children itself and code in the parent may wait for processes it started, so a zombie is
taken only when it was seen twice, a grace period apart.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

#: How long somebody else may take to wait for a dead child of the parent.
GRACE_S = 10.0


class OrphanReaper:
    """Reaps abandoned zombies. Call :meth:`sweep` now and then from one thread."""

    def __init__(self, now: Callable[[], float], grace_s: float = GRACE_S) -> None:
        self._now = now
        self._grace_s = grace_s
        self._first_seen_at: dict[int, float] = {}

    def sweep(self, pool_pids: Collection[int]) -> list[int]:
        """Reap zombies older than the grace period that are not in ``pool_pids``; returns their process ids."""
        if not has_zombie():
            self._first_seen_at.clear()
            return []
        now = self._now()
        zombies = {pid: self._first_seen_at.get(pid, now) for pid in zombie_children() if pid not in pool_pids}
        reaped = [pid for pid, seen_at in zombies.items() if now - seen_at >= self._grace_s and _reap(pid)]
        self._first_seen_at = {pid: seen_at for pid, seen_at in zombies.items() if pid not in reaped}
        return reaped


def has_zombie() -> bool:
    """Whether any child has exited and was not waited for; one cheap system call."""
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def zombie_children() -> list[int]:
    """Process ids of this process's zombies."""
    found: list[int] = []
    own_pid = os.getpid()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                # The command name in parentheses may hold anything, so the fields start after the last one.
                state, parent, *_rest = (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            except OSError:
                continue  # gone meanwhile
            if state == "Z" and int(parent) == own_pid:
                found.append(int(entry.name))
    return found


def _reap(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False
