"""celery-redbeat, the real package: a task in our worker changes the schedule, beat sends, our worker runs."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support.waiting import eventually
from support.worker import APPS, worker_environment

if TYPE_CHECKING:
    from pathlib import Path

    from support.stage import Stage

pytestmark = pytest.mark.lanes("fast")

APP = "redbeaten"


def test_entries_made_in_tasks_are_sent_and_run(stage: Stage, tmp_path: Path) -> None:
    key = stage.tasks.add_entry.delay("every-moment", 0.2).get(timeout=30)
    assert stage.redis.exists(key)
    with (tmp_path / "beat.log").open("wb") as log:
        beat = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", APP, "beat", "-S", "redbeat.RedBeatScheduler", "-l", "INFO"],
            env=worker_environment(broker=stage.server.url, backend=stage.server.url, lane="fast", extra={}),
            cwd=APPS, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        entries = eventually(lambda: stage.journal("ticks")[1:], deadline_s=60, what="two ticks")
        assert {entry["label"] for entry in entries} == {"every-moment"}
    finally:
        beat.terminate()
        beat.wait(timeout=30)
