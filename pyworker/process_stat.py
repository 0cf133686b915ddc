"""What the kernel says of a process in one line: proc(5), ``/proc/pid/stat``."""

from __future__ import annotations


def stat_fields(pid: int) -> list[str] | None:
    """Its fields from the third one (the state) on; ``None`` when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The program's name stands in parentheses before them and may hold anything.
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None
