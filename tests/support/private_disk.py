"""Disks that only one command sees: small, full or read-only ones, in a mount namespace of its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: Written to the disk until nothing fits any more.
FILLER = "filler"


def full_disk(folder: Path, *, size_bytes: int, seed: Path) -> tuple[str, ...]:
    """Return what goes before a command that is to see a disk without any free space.

    Args:
        folder: where the command sees it.
        size_bytes: how large the disk is.
        seed: a folder whose files are on it.
    """
    script = f'mount -t tmpfs -o size={size_bytes} tmpfs "$0" && cp -a "{seed}/." "$0" && '
    script += f'{{ cat /dev/zero >"$0/{FILLER}" 2>/dev/null; exec "$@"; }}'
    return (*_namespace(), "sh", "-c", script, str(folder))


def read_only_disk(folder: Path) -> tuple[str, ...]:
    """Return what goes before a command that is to see a disk on which nothing can be written."""
    return (*_namespace(), "sh", "-c", 'mount -t tmpfs -o ro tmpfs "$0" && exec "$@"', str(folder))


def seen_from_outside(folder: Path, pid: int) -> Path:
    """Return the folder as the process sees it, for everybody."""
    return folder.__class__(f"/proc/{pid}/root{folder}")


def beside(pid: int) -> tuple[str, ...]:
    """Return what goes before a command that is to see the disks of a process."""
    return ("nsenter", *(() if os.geteuid() == 0 else ("-U", "--preserve-credentials")), "-m", "-t", str(pid), "--")


def _namespace() -> tuple[str, ...]:
    # Who is not root becomes it in a namespace of users.
    return ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-r", "-m")
