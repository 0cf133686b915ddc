"""On what a figure was measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess

from pyworker.bench.redis_server import find_server


def describe() -> dict[str, str]:
    """Return what a reader needs to judge the figures: machine, system and versions."""
    facts = {
        "cpu": _cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": _memory(),
        # Above the number of cores somebody else was at work, and no figure is what it would be alone.
        "load": f"{os.getloadavg()[0]:.1f}",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "redis-server": _redis_version(),
    }
    for name in ("pyworker", "celery", "kombu", "redis"):
        version = distribution_version(name)
        if version:
            facts["redis-py" if name == "redis" else name] = version
    return facts


def distribution_version(name: str) -> str | None:
    """Return the version of an installed distribution."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            found = re.search(r"^model name\s*:\s*(.+)$", file.read(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1) if found else platform.machine()


def _memory() -> str:
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return f"{gigabytes:.0f} GiB"


def _redis_version() -> str:
    program = find_server()
    if program is None or shutil.which(program) is None:
        return "not installed"
    text = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"v=([\d.]+)", text)
    return found.group(1) if found else text.strip()
