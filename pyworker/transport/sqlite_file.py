"""The files that this process has open: one handle for everybody, so that commits and connections are shared."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyworker._native import NativeError, SqliteFile
from pyworker.exceptions import ImproperlyConfigured, OperationalError
from pyworker.worker.sqlite_config import SqliteAddress

_lock = threading.Lock()
_files: dict[tuple[SqliteAddress, tuple[int, ...]], SqliteFile] = {}

#: Priorities are rounded down to one of these, as on Redis.
PRIORITY_STEPS = (0, 3, 6, 9)


def priority_steps(options: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the steps that transport options ask for."""
    return tuple(int(step) for step in options.get("priority_steps") or PRIORITY_STEPS)


def open_file(address: SqliteAddress, *, setting: str, priority_steps: tuple[int, ...] = PRIORITY_STEPS) -> SqliteFile:
    """Return the handle of a file, which is made if it is not there.

    Raises:
        ImproperlyConfigured: the place or the file is not to be used; names the setting and the reason.
        OperationalError: the file cannot be reached now.
    """
    key = (address, priority_steps)
    with _lock:
        file = _files.get(key)
        if file is None:
            try:
                file = _files[key] = SqliteFile(address, priority_steps=priority_steps)
            except NativeError as error:
                if error.retryable:
                    raise OperationalError(f"{setting}: {error}") from error
                raise ImproperlyConfigured(f"{setting}: {error}") from error
        return file


def check_file(address: SqliteAddress, *, setting: str) -> None:
    """Say what is wrong with a file, before anything is started. It is left closed.

    What passes, a full disk or somebody who keeps the file locked, is left to whoever uses it: they wait.

    Raises:
        ImproperlyConfigured: the place or the file is not to be used; names the setting and the reason.
    """
    try:
        open_file(address, setting=setting).close()
    except OperationalError:
        pass


def discard_file(address: SqliteAddress) -> None:
    """Close the handles of a file of this process and delete it, side files too; nobody may use it any more."""
    with _lock:
        handles = [_files.pop(key) for key in list(_files) if key[0].path == address.path]
    for handle in handles:
        handle.close()
    for ending in ("", "-wal", "-shm", "-bell"):
        Path(address.path + ending).unlink(missing_ok=True)
