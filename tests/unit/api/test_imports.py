"""What ``import pyworker`` brings along, and that every public name is there."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pyworker
from pyworker import _native

_HEAVY = (
    *("celery", "billiard", "redis", "kombu", "amqp", "vine", "click", "rich", "asyncio", "ssl", "orjson"),
    *("dataclasses", "inspect", "pathlib", "shutil", "tempfile"),
)
_MEASURE = """
import json, sys, time
def memory():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
before, begin = memory(), time.process_time()
{statement}
print(json.dumps({{"modules": sorted(sys.modules), "cpu_s": time.process_time() - begin, "kib": memory() - before}}))
"""


def measured(statement: str) -> dict[str, Any]:
    """Import in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE.format(statement=statement)], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_importing_loads_nothing_slow() -> None:
    loaded = measured("import pyworker")["modules"]
    assert not {name.partition(".")[0] for name in loaded} & set(_HEAVY)


def test_importing_loads_at_most_half_of_celerys_modules() -> None:
    # Time and memory follow from the modules; `python -m bench.run --only imports` measures both.
    ours, celerys = (set(measured(f"import {name}; {name}.Celery")["modules"]) for name in ("pyworker", "celery"))
    assert len(ours) <= len(celerys) / 2


def test_every_public_name_exists() -> None:
    assert all(hasattr(pyworker, name) for name in pyworker.__all__)
    assert pyworker.__all__ == sorted(pyworker.__all__)


def test_the_version_is_the_native_cores() -> None:
    assert pyworker.__version__ == _native.__version__
