"""Measures whether a child uses more memory than it may."""

from __future__ import annotations

import os


class MemoryLimit:
    """The limit of resident memory of this process (``worker_max_memory_per_child``)."""

    def __init__(self, limit_kib: int) -> None:
        self.limit_kib = limit_kib
        self._page_kib = os.sysconf("SC_PAGE_SIZE") // 1024
        # Kept open: one read per task instead of three system calls.
        self._statm_fd = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)

    def exceeded_kib(self) -> int:
        """Return the resident memory in KiB if it is above the limit, else 0."""
        resident_pages = os.pread(self._statm_fd, 128, 0).split(maxsplit=2)[1]
        used_kib = int(resident_pages) * self._page_kib
        return used_kib if used_kib > self.limit_kib else 0
