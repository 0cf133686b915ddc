"""The public API as mypy and pyright see it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).with_name("public_api.py")
ROOT = EXAMPLES.parent.parent.parent
WRONG = {number for number, line in enumerate(EXAMPLES.read_text().splitlines(), 1) if line.endswith("# wrong")}


def test_mypy_finds_what_is_wrong_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), str(EXAMPLES)],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert found_by(r"public_api\.py:(\d+): error", done.stdout) == WRONG, done.stdout


def test_pyright_finds_what_is_wrong_and_nothing_else() -> None:
    pytest.importorskip("pyright")
    # By the module: its command is in no path unless the environment is activated.
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson", str(EXAMPLES)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    found = json.loads(done.stdout)["generalDiagnostics"]
    lines = {each["range"]["start"]["line"] + 1 for each in found if each["severity"] == "error"}
    assert lines == WRONG, found


def found_by(pattern: str, output: str) -> set[int]:
    """Line numbers in a checker's output."""
    return {int(number) for number in re.findall(pattern, output)}
