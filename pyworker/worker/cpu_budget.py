"""``--concurrency auto``: as many children as processors this process may really use."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


def usable_cpus() -> int:
    """Processors in the affinity mask, at most as many as the control group's quota pays for, at least one."""
    available = len(os.sched_getaffinity(0))
    quota = cgroup_cpu_quota()
    return available if quota is None else max(1, min(available, math.ceil(quota)))


def cgroup_cpu_quota(root: Path = _CGROUP_ROOT, own: Path = _OWN_CGROUP) -> float | None:
    """Processors that the control groups above this process grant, ``None`` without a limit (cgroup 2 and 1)."""
    quotas: list[float] = []
    for line in _read(own).splitlines():
        _number, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / controllers if controllers else root
        directory = Path(os.path.normpath(f"/{path}"))
        for ancestor in (directory, *directory.parents):
            quota = _quota_of(mount / str(ancestor).lstrip("/"), is_version_1=bool(controllers))
            if quota is not None:
                quotas.append(quota)
    return min(quotas, default=None)


def _quota_of(directory: Path, *, is_version_1: bool) -> float | None:
    if is_version_1:
        words = [_read(directory / "cpu.cfs_quota_us").strip(), _read(directory / "cpu.cfs_period_us").strip()]
    else:
        words = _read(directory / "cpu.max").split()
    if len(words) != 2 or not all(word.isdecimal() for word in words):
        return None  # no file, ``max``, or -1: no limit here
    quota_us, period_us = int(words[0]), int(words[1])
    return quota_us / period_us if quota_us and period_us else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
