"""The servers and tools that tests start: where they are, and what happens where they are not.

A test whose program is missing is skipped, never silently: the end of the run names each one (``conftest.py``). Under
``CI=true`` it fails.
"""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

_REASON = " is not installed: this test cannot run"


def program(*names: str) -> str:
    """Return the path of the first of these programs that is installed; without one the test cannot run.

    Args:
        names: names on ``PATH``, or absolute paths.
    """
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return path
    missing = Path(names[0]).name + _REASON
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


def unable(reports: Iterable[Any]) -> Mapping[str, list[str]]:
    """Return the tests that could not run, by the program they lack, from pytest's reports of skipped tests."""
    found: dict[str, list[str]] = defaultdict(list)
    for report in reports:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        if reason.endswith(_REASON):
            name = reason.removesuffix(_REASON).removeprefix("Skipped: ")
            found[name].append(report.nodeid)
    return {name: sorted(set(tests)) for name, tests in sorted(found.items())}
