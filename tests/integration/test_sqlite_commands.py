"""``pyworker sqlite`` on a file that is in use: tasks are sent and run meanwhile, and each runs once."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyworker
from support.kinds import Kind
from support.waiting import eventually
from support.worker import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OURS = Kind("pyworker", (sys.executable, "-m", "pyworker"), "fast")
#: Of a queue that nobody consumes from.
LEFT = 5


def run(*words: str) -> str:
    """Run a command in a process of its own."""
    command = [sys.executable, "-m", "pyworker", "sqlite", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def sending(app: pyworker.Celery, notes: Path) -> Iterator[list[str]]:
    """Send tasks all the time; yields the list of what was sent."""
    sent: list[str] = []
    over = threading.Event()

    def send() -> None:
        while not over.is_set():
            app.send_task("filed.note", (str(notes), str(len(sent))))
            sent.append(str(len(sent)))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield sent
    finally:
        over.set()
        sender.join()


def test_commands_disturb_nobody(tmp_path: Path) -> None:
    path, notes = tmp_path / "queue.db", tmp_path / "notes"
    url = f"sqlite:///{path}"
    app = pyworker.Celery("client", broker=url, set_as_current=False)
    app.conf.task_default_queue = "filed"
    for number in range(LEFT):
        app.send_task("filed.note", (str(notes), f"purged {number}"), queue="left")
    with WorkerProcess(OURS, "filed", broker=url, environment={"TEST_LIBRARY": "pyworker"}) as worker:
        with sending(app, notes) as sent:
            eventually(notes.exists, deadline_s=60, what="tasks run")
            before = len(sent)
            listed = dict(line.split(maxsplit=1) for line in run("queues", str(path)).splitlines())
            assert listed["left"].split() == [str(LEFT), "0", "0"]
            assert "bytes before" in run("vacuum", str(path))
            assert run("purge", str(path), "left", "--force") == f"{LEFT} messages deleted\n"
            assert run("check", str(path)) == "ok\n"
            assert len(sent) > before
        eventually(lambda: len(notes.read_text().split("\n")) > len(sent), deadline_s=60, what="all ran")
        assert worker.stop() == 0
    assert sorted(notes.read_text().split(), key=int) == sent
    assert run("check", str(path)) == "ok\n"
    app.close()
