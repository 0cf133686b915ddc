"""On a machine without the servers: what is installed, what the run says, and when it fails."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from support.programs import program, unable

ROOT = Path(__file__).resolve().parents[3]
#: What the scripts themselves use.
_TOOLS = ("bash", "env", "basename", "cargo", "cut", "dirname", "grep", "head", "id", "mkdir", "rustc", "sed", "sort")


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment whose PATH has the scripts' tools, and an apt-get that is refused."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in _TOOLS:
        path = shutil.which(tool)
        if path is not None:
            (folder / tool).symlink_to(path)
    refused = folder / "apt-get"
    refused.write_text('#!/bin/sh\necho "apt-get $*" >>"$APT_LOG"\nexit 100\n')
    refused.chmod(0o755)
    kept = {name: os.environ[name] for name in ("HOME", "CARGO_HOME", "RUSTUP_HOME") if name in os.environ}
    return {**kept, "PATH": str(folder), "APT_LOG": str(tmp_path / "apt.log")}


def run_script(name: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [shutil.which("bash") or "bash", f"scripts/{name}"], cwd=ROOT, env=environment, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip


def test_a_run_that_must_be_whole_fails_and_names_what_is_missing(bare: dict[str, str]) -> None:
    done = run_script("test", {**bare, "CI": "true"})
    assert done.returncode != 0
    assert "not installed: redis-server" in done.stderr
    assert "would not run" in done.stderr


def test_setup_goes_on_where_redis_cannot_be_installed(bare: dict[str, str]) -> None:
    done = run_script("install_redis", bare)
    assert done.returncode == 0, done.stderr
    assert "not installed (no right to, or no such package): redis-server" in done.stderr
    if os.geteuid() == 0:
        assert Path(bare["APT_LOG"]).read_text().startswith("apt-get update")


def test_a_machine_without_a_package_manager_is_told_what_it_lacks(bare: dict[str, str]) -> None:
    (Path(bare["PATH"]) / "apt-get").unlink()
    done = run_script("install_redis", bare)
    assert done.returncode == 0, done.stderr
    assert "missing: redis-server" in done.stderr


def test_a_test_without_its_program_is_skipped_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    assert program("never-installed", "sh") == shutil.which("sh")
    with pytest.raises(pytest.skip.Exception, match="never-installed is not installed"):
        program("/opt/never-installed")


def test_under_ci_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="never-installed is not installed"):
        program("never-installed")


def test_the_summary_names_each_test_that_could_not_run() -> None:
    def report(nodeid: str, reason: str) -> SimpleNamespace:
        return SimpleNamespace(nodeid=nodeid, longrepr=("programs.py", 1, f"Skipped: {reason}"))

    reason = "redis-server is not installed: this test cannot run"
    reports = [report("b", reason), report("a", reason), report("c", "for another reason")]
    assert unable(reports) == {"redis-server": ["a", "b"]}
