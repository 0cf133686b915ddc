"""``make test-wheels`` and ``make wheels`` on a machine that lacks a wheel or a Python: they fail and name it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"


def run_script(name: str, folder: Path, pythons: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a tree that has nothing but the scripts."""
    shutil.copytree(SCRIPTS, folder / "scripts")
    return subprocess.run(
        ["bash", f"scripts/{name}"], cwd=folder, env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONS": pythons},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_a_python_without_a_wheel_fails_the_run(tmp_path: Path) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    done = run_script("test_wheels", tmp_path, sys.executable)
    assert done.returncode != 0
    assert f"{version}  no wheel in dist/: make wheels" in done.stdout
    assert f"failed on Python {version}" in done.stderr


def test_a_python_that_is_named_and_not_here_fails_the_run(tmp_path: Path) -> None:
    done = run_script("test_wheels", tmp_path, f"{sys.executable} 2.0")
    assert done.returncode != 0
    assert "no Python 2.0 here" in done.stderr
    assert f'not every Python of PYTHONS="{sys.executable} 2.0" is here' in done.stderr
