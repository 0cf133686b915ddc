"""Peers that ask for an older redis-py than Celery's, measured in the environment that scripts/bench makes."""

from __future__ import annotations

import json
import shlex
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pyworker.bench.errors import BenchError
from pyworker.bench.figures import Figures

if TYPE_CHECKING:
    from bench.scenarios import Scenario

_ROOT = Path(__file__).parent.parent
_INTERPRETER = ".bench/bin/python"


def is_prepared() -> bool:
    """Whether the environment is there."""
    return (_ROOT / _INTERPRETER).exists()


def command(scenario: Scenario, peer: str) -> str:
    """Return the command that measures one of these peers as the scenario measures those it compares with."""
    options = replace(
        scenario.options.for_compared(), worker=peer, app_kind="celery", compare=(), compare_tasks=None,
        compare_concurrency=None, compare_pool=None,
    )  # fmt: skip
    return (
        replace(scenario, options=options).command().replace("pyworker bench", f"{_INTERPRETER} -m pyworker.bench", 1)
    )


def measure(scenario: Scenario, peer: str) -> list[Figures]:
    """Measure one of these peers; what is printed meanwhile is its own bench's.

    Raises:
        BenchError: it could not be measured. Wrong results do not raise: they are the figures' problems.
    """
    with tempfile.TemporaryDirectory(prefix="pyworker-bench-") as folder:
        path = Path(folder) / "figures.json"
        words = [*shlex.split(command(scenario, peer)), "--json", str(path)]
        code = subprocess.run(words, cwd=_ROOT, check=False).returncode
        if not path.exists():
            raise BenchError(f"{peer}: its bench ended with exit code {code} and without figures")
        return [Figures(**item) for item in json.loads(path.read_text())["subjects"][peer]]
