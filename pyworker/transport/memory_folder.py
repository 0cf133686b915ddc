"""The folder of a process's ``memory://`` files: gone with its process, or at the next start if that was killed."""

from __future__ import annotations

import atexit
import fcntl
import os
import re
import shutil
import tempfile
from pathlib import Path

_SHARED_MEMORY = Path("/dev/shm")
_PREFIX = "pyworker-memory-"
#: Locked as long as the process or a child of it lives.
_OWNER = "owner"
_PROCESS_ID = re.compile(re.escape(_PREFIX) + r"(\d+)-")


def make_memory_folder(parent: Path | None = None) -> str:
    """Make a folder in the machine's memory, and remove those that killed processes left behind.

    Args:
        parent: where; by default ``/dev/shm``, or the folder for temporary files where that cannot be used.
    """
    if parent is None:
        parent = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    for folder in parent.glob(f"{_PREFIX}*"):
        if _is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)
    made = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent)
    # Under its name once it is locked: nobody finds it free meanwhile. The descriptor stays open, in children too.
    unlocked = os.path.join(made, "unlocked")
    descriptor = os.open(unlocked, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.rename(unlocked, os.path.join(made, _OWNER))
    atexit.register(_remove, made, os.getpid())
    return made


def _is_abandoned(folder: Path) -> bool:
    """Whether nobody uses a folder any more: its owner is gone, and so is every child that could hold its lock.

    Both are asked for: processes of another container may have the same folder and other numbers, and a process may
    have closed descriptors that it did not know.
    """
    owner = _PROCESS_ID.match(folder.name)
    if owner is None or os.path.exists(f"/proc/{owner[1]}"):
        return False
    try:
        with (folder / _OWNER).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove(folder: str, process_id: int) -> None:
    if os.getpid() == process_id:
        shutil.rmtree(folder, ignore_errors=True)
