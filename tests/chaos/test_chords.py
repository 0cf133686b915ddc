"""Chords whose header is delivered twice in part, while children are killed: one body, or one error, and no hang."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import redis

from pyworker import chord, exceptions
from support.kinds import Kind
from support.processes import children_of
from support.redis_recording import RedisRecorder
from support.redis_server import RedisServer
from support.waiting import eventually
from support.worker import APPS, WorkerProcess

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

OWN = Kind("pyworker-own", (sys.executable, "-m", "pyworker"), "fast")


class Chorded(NamedTuple):
    """A server with a notebook, the application's client, a worker that is not started yet."""

    server: RedisServer
    notes: Any
    tasks: Any
    worker: WorkerProcess


@pytest.fixture
def chorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Chorded]:
    """The application, and what it takes to run it."""
    monkeypatch.syspath_prepend(str(APPS))
    with RedisServer() as server:
        notebook = server.url_with("", 9)
        for name, value in {"TEST_BROKER_URL": server.url, "TEST_RESULT_BACKEND": server.url}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delitem(sys.modules, "chorded", raising=False)
        tasks = importlib.import_module("chorded")
        environment = {"TEST_WITHOUT_CELERY": "1", "TEST_JOURNAL_URL": notebook}
        worker = WorkerProcess(OWN, "chorded", broker=server.url, options=("-c", "3"), environment=environment)
        with redis.Redis.from_url(notebook, decode_responses=True) as notes:
            yield Chorded(server, notes, tasks, worker)
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


def deliver_some_twice(server: RedisServer, randomness: random.Random, share: float) -> int:
    """Put copies of a share of the messages into the queue, everything in a random order; returns their number."""
    messages = server.client.lrange("celery", 0, -1)
    copies = []
    for raw in randomness.sample(messages, int(len(messages) * share)):
        copy = json.loads(raw)
        copy["properties"]["delivery_tag"] = str(uuid.UUID(int=randomness.getrandbits(128)))
        copies.append(json.dumps(copy))
    whole = [*messages, *copies]
    randomness.shuffle(whole)
    pipeline = server.client.pipeline()
    pipeline.delete("celery")
    for start in range(0, len(whole), 1000):
        pipeline.rpush("celery", *whole[start : start + 1000])
    pipeline.execute()
    return len(copies)


def test_a_chord_survives_double_deliveries_and_kills(
    chorded: Chorded, randomness: random.Random, request: pytest.FixtureRequest
) -> None:
    size = 10_000 if request.config.getoption("--chaos-long") else 1_000
    tasks = chorded.tasks
    result = chord(tasks.surely.s(number, 0.002) for number in range(size))(tasks.body.s())
    assert deliver_some_twice(chorded.server, randomness, 0.1) == size // 10
    with RedisRecorder(chorded.server.url) as recorder, chorded.worker:
        with Killer(chorded, randomness, pause_s=0.1, limit=size // 50) as killer:
            assert result.get(timeout=900 if size > 1000 else 120) == [size, size * (size - 1) // 2]
        eventually(lambda: not drained_of(chorded.server), deadline_s=60, what="the queue is empty")
        recorder.settle()
        bodies = [message["headers"]["id"] for message in recorder.messages("chorded.body")]
    runs = chorded.notes.hgetall("runs")
    print(f"{killer.kills} kills, {sum(map(int, runs.values()))} runs of {size} parts")
    assert killer.kills
    assert bodies == [result.id]
    assert list(chorded.notes.hgetall("bodies")) == [result.id]


def drained_of(server: RedisServer) -> int:
    """How many messages wait or are held."""
    return int(server.client.llen("celery")) + int(server.client.hlen("unacked"))


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
