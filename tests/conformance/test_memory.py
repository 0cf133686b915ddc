"""kombu's in-process transport, with a worker in a thread as tests have it; see ``support/in_process_memory.py``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).resolve().parent.parent / "support" / "in_process_memory.py"


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    """What became of each scenario."""
    environment = {**os.environ, "C_FORCE_ROOT": "1", "TEST_LIBRARY": "celery"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(_SCRIPT)], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.stdout.strip(), done.stderr
    found: dict[str, str] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


@pytest.mark.parametrize(
    "scenario",
    [
        "results", "retries", "requeue", "reject", "eta", "payloads", "order", "delivery_information", "expiry",
        "workflow", "shutdown",
    ],
)  # fmt: skip
def test_memory(outcomes: dict[str, str], scenario: str) -> None:
    if os.environ.get("CONFORMANCE_REPORT"):
        with Path(os.environ["CONFORMANCE_REPORT"]).open("a") as report:
            report.write(json.dumps(["memory, in one process", scenario, outcomes[scenario].splitlines()[0]]) + "\n")
    assert outcomes[scenario] == "passed", outcomes[scenario]
