"""``memsample`` and ``memdump``: the resident memory of the main process over time, in the form of Celery's replies."""

from __future__ import annotations

import os
from collections import deque

_SAMPLES_MAX = 4096
_samples: deque[str] = deque(maxlen=_SAMPLES_MAX)


def resident_text() -> str:
    """Return the resident memory, for people: ``12.3MB``."""
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[1])
    size = pages * os.sysconf("SC_PAGE_SIZE") / (1024 * 1024)
    return f"{size:.1f}MB"


def sample() -> str:
    """Take a sample and return it."""
    _samples.append(resident_text())
    return _samples[-1]


def dump(count: int = 10) -> str:
    """Return the newest samples and the present size as lines, and forget the samples."""
    newest = list(_samples)[-count:]
    _samples.clear()
    if not newest:
        return f"- rss (end): {resident_text()}.\n"
    lines = ["- rss (sample):", *(f"-    > {text}," for text in newest), f"- rss (end): {resident_text()}."]
    return "\n".join(lines) + "\n"
