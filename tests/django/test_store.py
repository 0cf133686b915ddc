"""A Django project on pyworker's own API, run by pyworker: settings, discovery, connections, transactions."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from support.kinds import Kind
from support.redis_server import RedisServer
from support.worker import APPS, WorkerProcess, worker_environment

if TYPE_CHECKING:
    from pathlib import Path

OWN_WORKER = Kind("pyworker-own", (sys.executable, "-m", "pyworker"), "fast")


def test_the_project_runs_on_our_own_api(tmp_path: Path) -> None:
    with RedisServer() as server:
        extra = {"TEST_DATABASE": str(tmp_path / "store.sqlite3"), "DJANGO_SETTINGS_MODULE": "store.settings"}
        environment = worker_environment(broker=server.url, backend=server.url, lane="fast", extra=extra)

        def run(*command: str) -> str:
            done = subprocess.run(
                [sys.executable, "-m", *command], env=environment, cwd=APPS, timeout=120, capture_output=True,
                text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            return done.stdout

        run("django", "migrate", "-v", "0")
        options = ("-c", "1")
        with WorkerProcess(OWN_WORKER, "store", broker=server.url, options=options, environment=extra) as worker:
            seen = json.loads(run("store.produce"))
            line = worker.wait_for_line(r"registered a$").string
            assert worker.stop() == 0
    assert seen["time_zone"] == "Europe/Paris"
    serial = seen["serial"]
    # One child ran them all, and none found a connection of another's.
    assert [entry[:2] for entry in serial] == [[False, 1], [False, 2], [False, 3]]
    assert len({process for _, _, process in serial}) == 1
    assert (seen["sent_before_commit"], seen["sent_after_commit"], seen["sent_after_rollback"]) == (0, 2, 2)
    assert seen["counts"] == [[3, "DjangoTask", "store", "en-us"]] * 2
    assert "store.orders.tasks.register" in line
    assert "[tasks]" in worker.log
    assert "store.orders.tasks.count" in worker.log
