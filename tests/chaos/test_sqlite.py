"""Producers and workers of one SQLite file are killed at random: what was acknowledged to a producer is executed."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pyworker.transport.sqlite_file import open_file
from pyworker.transport.sqlite_url import parse_sqlite_url
from support.kinds import Kind
from support.waiting import eventually
from support.worker import APPS, WorkerProcess, worker_environment

if TYPE_CHECKING:
    import random
    from pathlib import Path

OURS = Kind("pyworker", (sys.executable, "-m", "pyworker"), "fast")
ROUNDS = 4
ROUNDS_LONG = 200
#: Publishes until it is killed, and says what the file has acknowledged.
PRODUCER = """
import os, sys
from filed import note
name, executed, acknowledged = sys.argv[1:]
descriptor = os.open(acknowledged, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
number = 0
while True:
    line = f"{name}-{number}"
    note.delay(executed, line)
    os.write(descriptor, (line + "\\n").encode())
    number += 1
"""


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_what_was_acknowledged_is_executed(
    tmp_path: Path, randomness: random.Random, request: pytest.FixtureRequest
) -> None:
    rounds = ROUNDS_LONG if request.config.getoption("--chaos-long") else ROUNDS
    url = f"sqlite:///{tmp_path}/queue.db"
    executed, acknowledged = tmp_path / "executed", tmp_path / "acknowledged"
    environment = worker_environment(broker=url, backend=url, lane="fast", extra={"TEST_LIBRARY": "pyworker"})

    def producer(name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", PRODUCER, name, str(executed), str(acknowledged)]
        return subprocess.Popen(command, env=environment, cwd=APPS)

    def worker() -> WorkerProcess:
        options = ("-c", "1", "-n", f"w{randomness.randrange(1 << 30)}@%h")
        return WorkerProcess(OURS, "filed", broker=url, options=options, environment={"TEST_LIBRARY": "pyworker"})

    workers = [worker().start() for _ in range(2)]
    producers: list[subprocess.Popen[bytes]] = []
    try:
        for turn in range(rounds):
            before = len(lines_of(acknowledged))
            producers = [producer(f"p{turn}.{nth}") for nth in range(2)]
            enough = before + randomness.randrange(20, 200)
            eventually(lambda enough=enough: len(lines_of(acknowledged)) >= enough, deadline_s=60, what="publishing")
            for process in producers:
                process.send_signal(signal.SIGKILL)
                process.wait()
            victims = randomness.choice([[0], [1], [0, 1], []])
            for victim in victims:
                workers[victim].kill_all()
                workers[victim].close()
                workers[victim] = worker().start()
        everything = set(lines_of(acknowledged))
        eventually(lambda: everything <= set(lines_of(executed)), deadline_s=120, what="all executed")
    finally:
        for process in producers:
            if process.poll() is None:
                process.kill()
                process.wait()
        codes = [running.stop() for running in workers]
        for running in workers:
            running.close()
    assert codes == [0, 0]
    file = open_file(parse_sqlite_url(url, setting="test"), setting="test")
    assert file.problems() == []
    assert all(not any(counts) for _name, *counts in file.queues())
    print(f"{len(everything)} acknowledged, {len(lines_of(executed))} runs")
