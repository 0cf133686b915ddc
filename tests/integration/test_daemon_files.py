"""The files of ``extra/``: the init script runs, units and property lists are what their systems accept."""

from __future__ import annotations

import configparser
import os
import plistlib
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.processes import is_alive
from support.stage import Stage
from support.waiting import eventually
from support.worker import APPS, worker_environment

if TYPE_CHECKING:
    from support.kinds import Kind

pytestmark = pytest.mark.lanes("fast")

EXTRA = Path(__file__).resolve().parents[2] / "extra"


def test_units_are_accepted_by_systemd() -> None:
    analyze = shutil.which("systemd-analyze")
    units = sorted(EXTRA.glob("systemd/*.service"))
    assert len(units) == 2
    for unit in units:
        text = unit.read_text()
        assert "KillMode=" in text
        assert "TimeoutStopSec=" in text
    if analyze is not None:
        done = subprocess.run([analyze, "verify", *map(str, units)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert not [line for line in done.stderr.splitlines() if "pyworker" in line]


def test_other_files_can_be_read() -> None:
    plist = plistlib.loads((EXTRA / "macOS/org.pyworker.worker.plist").read_bytes())
    assert plist["ProgramArguments"][3] == "worker"
    supervisor = configparser.RawConfigParser(inline_comment_prefixes=(" ;",))
    supervisor.read(EXTRA / "supervisord/pyworker.conf")
    assert supervisor["program:pyworker"]["stopsignal"] == "TERM"


def test_init_script_starts_tells_and_stops(kind: Kind, tmp_path: Path) -> None:
    stage = Stage(kind).open(has_worker=False)
    settings = tmp_path / "default"
    settings.write_text(
        f"CELERY_BIN='{sys.executable} -m pyworker'\nCELERY_APP=tasks\nCELERYD_NODES='one'\nCELERYD_CHDIR='{APPS}'\n"
        f"CELERYD_PID_FILE='{tmp_path}/run/%n.pid'\nCELERYD_LOG_FILE='{tmp_path}/log/%n%I.log'\n"
        "CELERYD_OPTS='-c 1 -Q:one first'\n".replace(f"'{sys.executable} -m pyworker'", str(tmp_path / "pyworker"))
    )
    launcher = tmp_path / "pyworker"
    launcher.write_text(f'#!/bin/sh\nexec {sys.executable} -m pyworker "$@"\n')
    launcher.chmod(0o755)
    environment = worker_environment(broker=stage.server.url, backend=stage.server.url, lane="fast", extra={})
    environment["PYWORKERD_DEFAULTS"] = str(settings)

    def script(verb: str) -> subprocess.CompletedProcess[str]:
        line = ["sh", str(EXTRA / "generic-init.d/pyworkerd"), verb]
        return subprocess.run(line, capture_output=True, text=True, env=environment, timeout=120, check=False)

    pid = None
    try:
        assert script("status").returncode == 3
        started = script("start")
        assert started.returncode == 0, started.stderr + started.stdout
        pidfile = tmp_path / "run/one.pid"
        pid = int(eventually(lambda: pidfile.exists() and pidfile.read_text(), deadline_s=60))
        assert stage.tasks.add.apply_async((1, 2), queue="first").get(timeout=60) == 3
        status = script("status")
        assert (status.returncode, status.stdout) == (0, f"one (pid {pid}) is up\n")
        assert script("stop").returncode == 0
        assert not is_alive(pid)
        assert script("nonsense").returncode == 64
    finally:
        if pid is not None and is_alive(pid):
            os.kill(pid, signal.SIGKILL)
        stage.close()
