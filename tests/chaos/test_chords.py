"""Chords whose header is delivered twice in part, while children are killed: one body, or one error, and no hang."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import pytest
import redis

from pyworker import chord, exceptions
from support.kinds import Kind
from support.processes import children_of
from support.rabbitmq_recording import RabbitmqRecorder
from support.rabbitmq_server import RabbitmqHost
from support.redis_recording import RedisRecorder
from support.redis_server import RedisServer
from support.sqlite_recording import SqliteRecorder
from support.waiting import eventually
from support.worker import APPS, WorkerProcess

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

RECORDERS = {"redis": RedisRecorder, "amqp": RabbitmqRecorder, "sqlite": SqliteRecorder}
OWN = Kind("pyworker-own", (sys.executable, "-m", "pyworker"), "fast")


class Chorded(NamedTuple):
    """A server with a notebook, the application's client, a worker that is not started yet."""

    #: Holds the notebook; the broker and the results too unless they are elsewhere.
    server: RedisServer
    broker: str
    notes: Any
    tasks: Any
    worker: WorkerProcess


@pytest.fixture
def chorded(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Chorded]:
    """The application, and what it takes to run it, on Redis or on the broker that a test is parametrized with."""
    monkeypatch.syspath_prepend(str(APPS))
    kind = getattr(request, "param", "redis")
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer())
        notebook = server.url_with("", 9)
        broker = server.url
        if kind == "sqlite":
            broker = f"sqlite:///{tmp_path}/queue.db"
        elif kind == "rabbitmq":
            broker = stack.enter_context(RabbitmqHost()).trace().url
        backend = broker if kind == "sqlite" else server.url
        for name, value in {"TEST_BROKER_URL": broker, "TEST_RESULT_BACKEND": backend}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delitem(sys.modules, "chorded", raising=False)
        tasks = importlib.import_module("chorded")
        environment = {"TEST_WITHOUT_CELERY": "1", "TEST_JOURNAL_URL": notebook}
        worker = WorkerProcess(
            OWN, "chorded", broker=broker, backend=backend, options=("-c", "3"), environment=environment
        )
        with redis.Redis.from_url(notebook, decode_responses=True) as notes:
            yield Chorded(server, broker, notes, tasks, worker)
        tasks.app.close()
        sys.modules.pop("chorded", None)


class Killer:
    """Kills children of a worker at random, from a thread of its own, until it killed enough."""

    def __init__(self, chorded: Chorded, randomness: random.Random, *, pause_s: float, limit: int) -> None:
        self._chorded = chorded
        self._randomness = randomness
        self._pause_s = pause_s
        self._limit = limit
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.kills = 0

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while self.kills < self._limit and not self._stopping.wait(self._randomness.uniform(0, 2 * self._pause_s)):
            known = {int(pid) for pid in self._chorded.notes.smembers("pool-children")}
            alive = [pid for pid in children_of(self._chorded.worker.pid) if pid in known]
            if alive:
                try:
                    os.kill(self._randomness.choice(alive), signal.SIGKILL)
                    self.kills += 1
                except ProcessLookupError:
                    pass


class Doubling:
    """Sends a share of each batch twice, everything in a random order, through the application's own outlet."""

    def __init__(self, app: Any, randomness: random.Random, share: float) -> None:
        self._randomness = randomness
        self._share = share
        # Loading the settings, which is done once, leads to another outlet.
        app.conf.load()
        self._outlet = app._publisher.outlet
        self._push_many = self._outlet.push_many
        self.copies = 0

    def __enter__(self) -> Doubling:
        self._outlet.push_many = self._push
        return self

    def __exit__(self, *_error: object) -> None:
        self._outlet.push_many = self._push_many

    def _push(self, outgoing: Any) -> None:
        copies = self._randomness.sample(outgoing, int(len(outgoing) * self._share))
        self.copies += len(copies)
        whole = [*outgoing, *copies]
        self._randomness.shuffle(whole)
        self._push_many(whole)


@pytest.mark.parametrize("chorded", ["redis", "rabbitmq", "sqlite"], indirect=True)
def test_a_chord_survives_double_deliveries_and_kills(
    chorded: Chorded, randomness: random.Random, request: pytest.FixtureRequest
) -> None:
    size = 10_000 if request.config.getoption("--chaos-long") else 1_000
    tasks = chorded.tasks
    with Doubling(tasks.app, randomness, 0.1) as doubling:
        result = chord(tasks.surely.s(number, 0.002) for number in range(size))(tasks.body.s())
    assert doubling.copies == size // 10
    with RECORDERS[urlsplit(chorded.broker).scheme](chorded.broker) as recorder, chorded.worker:
        with Killer(chorded, randomness, pause_s=0.1, limit=size // 50) as killer:
            assert result.get(timeout=900 if size > 1000 else 120) == [size, size * (size - 1) // 2]
        runs_at_the_end = size + size // 10
        eventually(
            lambda: sum(map(int, chorded.notes.hvals("runs"))) >= runs_at_the_end, deadline_s=120, what="every copy ran"
        )
        recorder.settle()
        bodies = [message["headers"]["id"] for message in recorder.messages("chorded.body")]
    runs = chorded.notes.hgetall("runs")
    print(f"{killer.kills} kills, {sum(map(int, runs.values()))} runs of {size} parts")
    assert killer.kills
    assert bodies == [result.id]
    assert list(chorded.notes.hgetall("bodies")) == [result.id]


def test_a_lost_part_fails_its_chord_once(chorded: Chorded) -> None:
    """Parts that acknowledge early are lost with their child; the main process counts them for the chord."""
    tasks = chorded.tasks
    results = [
        chord([*(tasks.once.s(number) for number in range(10)), tasks.dies.s()])(
            tasks.body.s().on_error(tasks.error.s())
        )
        for _ in range(8)
    ]
    with chorded.worker:
        errors = [result.get(timeout=60, propagate=False, follow_parents=False) for result in results]
        # The callbacks are told after the failure is stored.
        told = {result.id: "1" for result in results}
        eventually(lambda: chorded.notes.hgetall("errors") == told, what="every failure is told")
    assert all(isinstance(error, exceptions.ChordError) and "WorkerLostError" in str(error) for error in errors)
    assert chorded.notes.hgetall("errors") == told
    assert not chorded.notes.exists("bodies")


def test_a_claim_whose_owner_died_is_taken_over(chorded: Chorded) -> None:
    """Who completes a chord dies before it sends the body: a second delivery of its part sends it."""
    tasks = chorded.tasks
    result = chord([tasks.surely.s(1, 0), tasks.surely.s(2, 0)])(tasks.body.s())
    group_id = result.parent.id
    chorded.server.client.set(f"celery-taskset-meta-{group_id}.c", "of a dead process", ex=2)
    with chorded.worker:
        assert result.get(timeout=30) == [2, 3]
