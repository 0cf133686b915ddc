"""The ``--pidfile`` of a worker: made at start, refused if its process lives, removed at exit."""

from __future__ import annotations

import os
import sys
from pathlib import Path

#: Exit code when the file belongs to a living process.
EXIT_CANNOT_CREATE = os.EX_CANTCREAT

LOCKED_TEXT = "ERROR: Pidfile ({path}) already exists.\nSeems we're already running? (pid: {pid})"


class PidfileLocked(Exception):
    """The file names a process that is running."""


class Pidfile:
    """A file that holds this process's id for as long as it runs."""

    def __init__(self, path: str) -> None:
        self._given_path = path
        # Absolute, because the worker may change its directory before it ends.
        self.path = Path(path).absolute()
        self._owner_pid: int | None = None

    def acquire(self) -> None:
        """Create the file, taking away one whose process is gone.

        Raises:
            PidfileLocked: another process holds it.
            OSError: the file cannot be written.
        """
        if self.path.exists():
            self._remove_stale()
        descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{os.getpid()}\n")
            file.flush()
            os.fsync(descriptor)
        self._owner_pid = os.getpid()

    def release(self) -> None:
        """Remove the file if this process made it. Idempotent; does nothing in a forked copy."""
        if self._owner_pid == os.getpid():
            self._owner_pid = None
            self._unlink()

    def read(self) -> int | None:
        """The process id in the file, ``None`` if there is no file.

        Raises:
            ValueError: the file holds something else.
        """
        try:
            text = self.path.read_text("ascii", "replace")
        except FileNotFoundError:
            return None
        if not text.endswith("\n"):
            raise ValueError(f"Partial or invalid pidfile {self.path}")
        try:
            return int(text.strip())
        except ValueError:
            raise ValueError(f"pidfile {self.path} contents invalid.") from None

    def _remove_stale(self) -> None:
        try:
            pid = self.read()
        except ValueError:
            print("Broken pidfile found - Removing it.", file=sys.stderr)
            self._unlink()
            return
        # Our own id is what a container's restarted worker finds, where it is always process 1.
        if pid is not None and pid != os.getpid() and pid > 0:
            if _is_running(pid):
                raise PidfileLocked(LOCKED_TEXT.format(path=self._given_path, pid=pid))
            print("Stale pidfile exists - Removing it.", file=sys.stderr)
        self._unlink()

    def _unlink(self) -> None:
        try:
            self.path.unlink()
        except (FileNotFoundError, PermissionError):
            pass


def _is_running(pid: int) -> bool:
    """Whether the worker that wrote the file can still be there; a process of another user is not it."""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
