"""What importing costs: processor time and memory of ``pyworker`` and of ``celery``, interpreters in turn."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_ROUNDS = 15
_MEASURE = """
import json, time
def memory():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
before, begin = memory(), time.process_time()
import {name}
{name}.Celery
print(json.dumps({{"cpu_ms": (time.process_time() - begin) * 1000, "memory_mb": (memory() - before) / 1024}}))
"""


def measure_imports(console: Console) -> dict[str, dict[str, float]]:
    """Return for each package the medians of CPU milliseconds and of megabytes, the ``Celery`` class included."""
    console.rule("import")
    with tempfile.TemporaryDirectory(prefix="pyworker-imports-") as cache:
        # What an installer compiles is compiled for both, by a round that does not count.
        rounds = [{name: _measured(name, cache) for name in ("pyworker", "celery")} for _ in range(_ROUNDS + 1)][1:]
    found = {
        name: {figure: statistics.median(each[name][figure] for each in rounds) for figure in ("cpu_ms", "memory_mb")}
        for name in ("pyworker", "celery")
    }
    for name, figures in found.items():
        console.print(f"import {name}: {figures['cpu_ms']:.0f} ms CPU, {figures['memory_mb']:.1f} MB", highlight=False)
    return found


def _measured(name: str, cache: str) -> dict[str, float]:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": cache}
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE.format(name=name)],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    figures: dict[str, float] = json.loads(done.stdout)
    return figures
