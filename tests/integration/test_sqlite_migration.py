"""A worker that is started on a file of schema 1 does what its older self left to do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pyworker
from pyworker.transport.sqlite_file import open_file
from pyworker.transport.sqlite_url import parse_sqlite_url
from support.kinds import Kind
from support.old_sqlite_file import NEW, QUEUES, RESULTS_TO_COME, schema_of, write_old_file
from support.waiting import eventually
from support.worker import WorkerProcess

if TYPE_CHECKING:
    from pathlib import Path

OURS = Kind("pyworker", (sys.executable, "-m", "pyworker"), "fast")


def test_everything_that_was_left_is_done(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    write_old_file(path)
    url = f"sqlite:///{path}"
    options, environment = ("-c", "1", "-Q", QUEUES), {"TEST_LIBRARY": "pyworker"}
    app = pyworker.Celery("client", broker=url, backend=url, set_as_current=False)
    with WorkerProcess(OURS, "filed", broker=url, options=options, environment=environment) as worker:
        found = {task_id: app.AsyncResult(task_id).get(timeout=60) for task_id in RESULTS_TO_COME}
        assert found == RESULTS_TO_COME
        assert app.AsyncResult("done").get(timeout=60) == 42
        assert isinstance(app.AsyncResult("failed").get(timeout=60, propagate=False), ValueError)
        eventually(lambda: app.AsyncResult("expired").state == "REVOKED", deadline_s=60, what="it has expired")
        file = open_file(parse_sqlite_url(url, setting="test"), setting="test")
        left = {"filed": [0, 1, 0]}
        eventually(
            lambda: {name: counts for name, *counts in file.queues() if any(counts)} == left,
            deadline_s=60, what="only what is scheduled is left",
        )  # fmt: skip
        assert worker.stop() == 0
    app.close()
    file.close()
    assert schema_of(path) == NEW
