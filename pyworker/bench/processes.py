"""What a tree of processes costs, read from the kernel."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from pyworker.process_stat import stat_fields

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
#: Linux's clock id of a process's CPU time: the complement of its id above three bits of kind (2: all threads).
_PROCESS_CPU_CLOCK_KIND = 2


@dataclass(frozen=True, kw_only=True)
class ProcessMemory:
    """Memory of one process in bytes."""

    pid: int
    #: Proportional set size: pages shared with other processes count as their share.
    pss: int
    #: Pages that only this process has.
    private: int
    rss: int


def tree(root_pid: int) -> list[int]:
    """Return ``root_pid`` and all its descendants that are alive."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            parent = _parent(int(entry))
            if parent is not None:
                children.setdefault(parent, []).append(int(entry))
    found = [root_pid]
    for pid in found:
        found += children.get(pid, [])
    return found


def _parent(pid: int) -> int | None:
    fields = stat_fields(pid)
    return int(fields[1]) if fields and fields[0] != "Z" else None


def cpu_seconds(root_pid: int) -> float:
    """Return the CPU time used so far by a tree of processes, its dead and reaped members included."""
    total = 0.0
    for pid in tree(root_pid):
        fields = stat_fields(pid)
        if fields is None:
            continue
        reaped = (int(fields[13]) + int(fields[14])) / _TICKS_PER_SECOND
        try:
            own = time.clock_gettime((~pid << 3) | _PROCESS_CPU_CLOCK_KIND)
        except OSError:
            own = (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND
        total += own + reaped
    return total


def memory(root_pid: int) -> list[ProcessMemory]:
    """Return the memory of every process of a tree, the root first."""
    found = []
    for pid in tree(root_pid):
        values: dict[str, int] = {}
        try:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                for line in file.readlines()[1:]:
                    name, _, rest = line.partition(":")
                    values[name] = int(rest.split()[0]) * 1024
        except (OSError, IndexError):
            continue
        private = values.get("Private_Clean", 0) + values.get("Private_Dirty", 0)
        found.append(ProcessMemory(pid=pid, pss=values.get("Pss", 0), private=private, rss=values.get("Rss", 0)))
    return found
