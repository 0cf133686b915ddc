"""Revoked task ids with Celery's bounds, and the state database that keeps them between restarts."""

from __future__ import annotations

import io
import os
import pickle
import shelve
import threading
import time
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_MAX = 50_000
_LIFE_S = 10_800.0
#: The version of the state database that Celery writes since 3.1.
_PROTOCOL = 3


class RevokedIds:
    """The newest ids, each for a limited time. Safe across threads.

    Args:
        count: how many; the default is ``CELERY_WORKER_REVOKES_MAX`` or 50,000.
        life_s: for how long; the default is ``CELERY_WORKER_REVOKE_EXPIRES`` or three hours.
    """

    def __init__(self, count: int | None = None, life_s: float | None = None) -> None:
        self.count = int(os.environ.get("CELERY_WORKER_REVOKES_MAX") or _MAX) if count is None else count
        self.life_s = float(os.environ.get("CELERY_WORKER_REVOKE_EXPIRES") or _LIFE_S) if life_s is None else life_s
        self._ids: dict[str, float] = {}
        self._lock = threading.Lock()
        #: Told of new ids.
        self.on_added: Callable[[list[str]], None] | None = None

    def add(self, task_ids: Iterable[str]) -> None:
        """Add ids; known ones become the newest."""
        added = [str(task_id) for task_id in task_ids]
        now = time.monotonic()
        with self._lock:
            for task_id in added:
                self._ids.pop(task_id, None)
                self._ids[task_id] = now
            self._purge(now)
        if added and self.on_added is not None:
            self.on_added(added)

    def ids(self) -> list[str]:
        """Return the ids, oldest first."""
        with self._lock:
            self._purge(time.monotonic())
            return list(self._ids)

    def __contains__(self, task_id: str) -> bool:
        with self._lock:
            added = self._ids.get(task_id)
            return added is not None and time.monotonic() - added < self.life_s

    def _purge(self, now: float) -> None:
        while self._ids:
            oldest = next(iter(self._ids))
            if len(self._ids) <= self.count and now - self._ids[oldest] < self.life_s:
                return
            del self._ids[oldest]


class StateDatabase:
    """The file of ``--statedb``, in Celery's format: a shelf with the compressed pickle of the ids, and the clock.

    Either library's worker reads what the other wrote.

    Raises:
        Exception: whatever :mod:`shelve` raises about the file.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def load(self) -> tuple[list[str], int]:
        """Return the ids, oldest first, and the clock."""
        with shelve.open(self._path) as shelf:
            packed = shelf.get("zrevoked")
            clock = int(shelf.get("clock") or 0)
        if not packed:
            return [], clock
        return [str(task_id) for task_id in _Reader(io.BytesIO(zlib.decompress(packed))).load()], clock

    def save(self, task_ids: Iterable[str], clock: int) -> None:
        """Write the ids and the clock."""
        # Celery's stamps are monotonic times, which it drops when it reads; a mapping keeps the order.
        stamped = dict.fromkeys(task_ids, time.monotonic())
        with shelve.open(self._path) as shelf:
            shelf["__proto__"] = _PROTOCOL
            shelf["zrevoked"] = zlib.compress(pickle.dumps(stamped, protocol=2))
            shelf["clock"] = clock


def _as_ids(_maxlen: int = 0, _expires: float = 0, data: Any = None, _minlen: int = 0) -> list[str]:
    """Stand for Celery's ``LimitedSet``: its ids by the time at which they were added."""
    stamped = data or {}
    return sorted(stamped, key=stamped.__getitem__) if isinstance(stamped, dict) else list(stamped)


class _Reader(pickle.Unpickler):
    """Reads the one class that Celery puts into the file, and refuses any other."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("celery.utils.collections", "LimitedSet"):
            return _as_ids
        raise pickle.UnpicklingError(f"the state database names {module}.{name}, which does not belong there")
