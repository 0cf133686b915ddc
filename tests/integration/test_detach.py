"""Workers in the background for real: ``--detach``, ``multi`` start to kill, and their files."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support.processes import is_alive
from support.stage import Stage
from support.waiting import eventually
from support.worker import APPS, worker_environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.kinds import Kind

pytestmark = pytest.mark.lanes("fast")


@pytest.fixture
def stage(kind: Kind, tmp_path: Path) -> Iterator[Stage]:
    """A server and a producer; the background workers are found by their pid files and always ended."""
    bare = Stage(kind).open(has_worker=False)
    try:
        yield bare
    finally:
        for file in tmp_path.rglob("*.pid"):
            pid = pid_in(file)
            if pid and is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        bare.close()


def pid_in(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (FileNotFoundError, ValueError):
        return None


def run(stage: Stage, *words: str) -> subprocess.CompletedProcess[str]:
    environment = worker_environment(broker=stage.server.url, backend=stage.server.url, lane="fast", extra={})
    return subprocess.run(
        [sys.executable, "-m", "pyworker", *words],
        capture_output=True, text=True, env=environment, cwd=APPS, timeout=120, check=False,
    )  # fmt: skip


def started_pid(file: Path) -> int:
    """The process of a worker that has just been told to start."""

    def living() -> int:
        pid = pid_in(file)
        assert pid is not None
        assert is_alive(pid)
        return pid

    return eventually(living, deadline_s=60, what=f"a process in {file}")


def test_detached_worker_works_in_the_background(stage: Stage, tmp_path: Path) -> None:
    options = ["-n", "w1@%h", "-c", "1", "-l", "INFO", f"--pidfile={tmp_path}/%n.pid", f"--logfile={tmp_path}/%n%I.log"]
    done = run(stage, "-A", "tasks", "worker", "-D", "--umask=077", *options)
    assert (done.returncode, done.stderr) == (0, "")
    pid = started_pid(tmp_path / "w1.pid")
    assert os.getsid(pid) != os.getsid(0)
    assert os.readlink(f"/proc/{pid}/fd/0") == os.readlink(f"/proc/{pid}/fd/1") == os.devnull
    assert os.readlink(f"/proc/{pid}/cwd") == str(APPS)
    assert stage.tasks.add.delay(1, 2).get(timeout=60) == 3
    log = tmp_path / "w1.log"
    eventually(lambda: "ready." in log.read_text(), deadline_s=60)
    assert log.stat().st_mode & 0o777 == 0o600
    # A second one of that name is refused while there is a terminal to say so.
    again = run(stage, "-A", "tasks", "worker", "-D", *options)
    assert again.returncode == os.EX_CANTCREAT
    assert "already exists" in again.stderr
    assert "there/log" in run(stage, "-A", "tasks", "worker", "-D", "-f", f"{tmp_path}/not/there/log").stderr
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: not is_alive(pid), deadline_s=60)
    assert not (tmp_path / "w1.pid").exists()


def test_multi_starts_restarts_and_stops_nodes(stage: Stage, tmp_path: Path) -> None:
    files = [f"--pidfile={tmp_path}/run/%n.pid", f"--logfile={tmp_path}/log/%n%I.log"]
    nodes = ["w1", "w2", "-c", "1", "-Q:w2", "second", "-l", "INFO", *files]
    started = run(stage, "-A", "tasks", "multi", "start", *nodes)
    assert started.returncode == 0, started.stderr + started.stdout
    assert len(re.findall(r"> w[12]@\S+: OK", started.stdout)) == 2
    first, second = (started_pid(tmp_path / "run" / f"w{number}.pid") for number in (1, 2))
    assert stage.tasks.add.delay(1, 2).get(timeout=60) == 3
    assert stage.tasks.add.apply_async((2, 2), queue="second").get(timeout=60) == 4
    # A worker that is busy is waited for.
    busy = stage.tasks.gated.delay("multi")
    stage.wait_for_journal("multi", 1, deadline_s=60)
    stage.open_gate("multi")
    restarted = run(stage, "-A", "tasks", "multi", "restart", "w1", "-c", "1", "-l", "INFO", *files)
    assert restarted.returncode == 0, restarted.stderr + restarted.stdout
    assert "TERM -> " in restarted.stdout
    assert busy.get(timeout=60) is not None or busy.successful()
    eventually(lambda: pid_in(tmp_path / "run" / "w1.pid") not in (None, first), deadline_s=60)
    third = started_pid(tmp_path / "run" / "w1.pid")
    assert not is_alive(first)
    assert is_alive(second)
    # Until it has its handlers, SIGINT may be ignored: a shell's background commands are started so.
    log = tmp_path / "log" / "w1.log"
    eventually(lambda: log.read_text().count("ready.") == 2, deadline_s=60, what="the new w1 is ready")
    stopped = run(stage, "-A", "tasks", "multi", "stopwait", "w1", "-INT", *files)
    assert stopped.returncode == 0
    assert "INT -> " in stopped.stdout
    assert not is_alive(third)
    killed = run(stage, "-A", "tasks", "multi", "kill", "w1", "w2", *files)
    assert killed.returncode == 0
    assert re.search(r"w1@\S+: DOWN", killed.stdout)
    eventually(lambda: not is_alive(second), deadline_s=60)
    assert log.read_text().count("ready.") == 2
