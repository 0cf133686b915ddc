"""What /proc says about processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def children_of(pid: int) -> list[int]:
    """Return the process ids of the direct children."""
    children: list[int] = []
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return children
    for thread in threads:
        try:
            children += [int(word) for word in (thread / "children").read_text().split()]
        except OSError:
            continue
    return children


def descendants_of(pid: int) -> list[int]:
    """Return the process ids of all descendants."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = children_of(waiting.pop())
        found += children
        waiting += children
    return found


def is_alive(pid: int) -> bool:
    """Tell whether the process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


def oldest(pids: Iterable[int]) -> int:
    """Return the process that started first; its id need not be the smallest, because ids begin anew at a limit."""
    return min(pids, key=lambda pid: (_start_ticks(pid), pid))


def open_descriptors(pid: int) -> int:
    """Return how many descriptors the process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def thread_count(pid: int) -> int:
    """Return how many threads the process has."""
    return len(os.listdir(f"/proc/{pid}/task"))


def resident_kib(pid: int) -> int:
    """Return the resident memory of the process in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def local_ports(pids: Iterable[int], server_port: int) -> list[int]:
    """Return this end's port of each connection that the processes have to a server's port, once if they share it."""
    sockets = {target for pid in pids for target in _links(Path(f"/proc/{pid}/fd"))}
    found: list[int] = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            local, remote = (int(address.rpartition(":")[2], 16) for address in fields[1:3])
            if remote == server_port and f"socket:[{fields[9]}]" in sockets:
                found.append(local)
    return found


def _start_ticks(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def _links(directory: Path) -> list[str]:
    targets: list[str] = []
    try:
        entries = list(directory.iterdir())
    except OSError:
        return targets
    for entry in entries:
        try:
            targets.append(str(entry.readlink()))
        except OSError:
            continue
    return targets
