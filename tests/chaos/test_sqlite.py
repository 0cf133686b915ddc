"""Producers and workers of one SQLite file are killed at random: what was acknowledged to a producer is executed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from pyworker.transport.sqlite_file import open_file
from pyworker.transport.sqlite_url import parse_sqlite_url
from support.kinds import Kind
from support.processes import descendants_of
from support.waiting import eventually
from support.worker import APPS, WorkerProcess, worker_environment

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from typing_extensions import Self

    from pyworker._native import SqliteFile

OURS = Kind("pyworker", (sys.executable, "-m", "pyworker"), "fast")
ROUNDS = 5
ROUNDS_LONG = 200
WORKERS = 2
PRODUCERS = 2
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


def count_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


class Village:
    """Everybody who uses the file."""

    def __init__(self, folder: Path, randomness: random.Random) -> None:
        self.url = f"sqlite:///{folder}/queue.db"
        self.executed, self.acknowledged = folder / "executed", folder / "acknowledged"
        self._randomness = randomness
        self._environment = worker_environment(
            broker=self.url, backend=self.url, lane="fast", extra={"TEST_LIBRARY": "pyworker"}
        )
        self.workers: list[WorkerProcess] = []
        self.producers: list[subprocess.Popen[bytes]] = []
        self._started = 0

    def __enter__(self) -> Self:
        try:
            self.mend()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_reason: object) -> None:
        self.close()

    def mend(self) -> None:
        """Replace the dead."""
        self.workers = [worker for worker in self.workers if worker.is_running]
        self.producers = [producer for producer in self.producers if producer.poll() is None]
        while len(self.producers) < PRODUCERS:
            command = [sys.executable, "-c", PRODUCER, f"p{self._started}", str(self.executed), str(self.acknowledged)]
            self.producers.append(subprocess.Popen(command, env=self._environment, cwd=APPS))
            self._started += 1
        while len(self.workers) < WORKERS:
            options = ("-c", "1", "-n", f"w{self._randomness.randrange(1 << 30)}@%h")
            environment = {"TEST_LIBRARY": "pyworker"}
            self.workers.append(WorkerProcess(OURS, "filed", broker=self.url, options=options, environment=environment))
            self.workers[-1].start()

    def publish_for_a_while(self) -> None:
        enough = count_of(self.acknowledged) + self._randomness.randrange(20, 300)
        eventually(lambda: count_of(self.acknowledged) >= enough, deadline_s=120, what="publishing goes on")

    def strike(self) -> bool:
        """Kill some processes in any order, one right after the other; whether everybody was hit."""
        everybody: list[WorkerProcess | subprocess.Popen[bytes]] = [*self.workers, *self.producers]
        hits_all = self._randomness.random() < 0.3
        victims = self._randomness.sample(everybody, len(everybody) if hits_all else self._randomness.randrange(1, 4))
        for victim in victims:
            # A worker's children go with it, or are left for it to miss.
            family = descendants_of(victim.pid) if isinstance(victim, WorkerProcess) else []
            for pid in [victim.pid, *(family if self._randomness.random() < 0.5 else [])]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for victim in victims:
            if isinstance(victim, WorkerProcess):
                victim.wait(deadline_s=60)
                victim.close()
            else:
                victim.wait(60)
        if len(victims) == len(everybody):
            assert self.file().problems() == []
        return len(victims) == len(everybody)

    def end_producers(self) -> None:
        """Kill who still publishes."""
        for producer in self.producers:
            producer.kill()
            producer.wait()

    def file(self) -> SqliteFile:
        """The file, for a look."""
        return open_file(parse_sqlite_url(self.url, setting="test"), setting="test")

    def is_empty(self) -> bool:
        """Whether no message waits and nobody holds one."""
        assert self.left() == []
        return True

    def left(self) -> list[tuple[str, int, int, int]]:
        """Queues that are not empty."""
        return [queue for queue in self.file().queues() if any(queue[1:])]

    def close(self) -> None:
        """End everybody."""
        self.end_producers()
        for worker in self.workers:
            worker.close()


def test_what_was_acknowledged_is_executed(
    tmp_path: Path, randomness: random.Random, request: pytest.FixtureRequest
) -> None:
    rounds = ROUNDS_LONG if request.config.getoption("--chaos-long") else ROUNDS
    with Village(tmp_path, randomness) as village:
        massacres = 0
        for _ in range(rounds):
            village.publish_for_a_while()
            massacres += village.strike()
            village.mend()
        village.end_producers()
        acknowledged = lines_of(village.acknowledged)
        everything = set(acknowledged)
        eventually(lambda: everything <= set(lines_of(village.executed)), deadline_s=180, what="all executed")
        eventually(village.is_empty, deadline_s=60, what="nothing is left in the file")
        assert [worker.stop() for worker in village.workers] == [0] * WORKERS
        assert village.file().problems() == []
    executed = lines_of(village.executed)
    # A producer that died between the commit and its note of it: the one task that it was about to note.
    counts = Counter(line.rpartition("-")[0] for line in acknowledged)
    unnoted = set(executed) - everything
    assert unnoted <= {f"{name}-{counts[name]}" for name in {line.rpartition("-")[0] for line in executed}}
    print(f"{len(acknowledged)} acknowledged, {len(unnoted)} not noted, {len(executed) - len(set(executed))} repeats,")
    print(f"{rounds} rounds, everybody killed at once in {massacres}")
