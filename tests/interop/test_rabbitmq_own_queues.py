"""What RabbitMQ does for queues and exchanges of an app of ours: priorities, dead letters, alternates, broadcasts."""

from __future__ import annotations

import importlib
import random
import sys
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection

from support.connected import WORKER
from support.rabbitmq_server import RabbitmqHost
from support.waiting import eventually
from support.worker import APPS, WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("rabbitmq")]

DEADLINE_S = 90.0


class Scene:
    """A virtual host, the client's side of the app, and a file that tasks write lines into."""

    def __init__(self, host: RabbitmqHost, folder: Path) -> None:
        self.host = host
        self._backend = f"sqlite:///{folder}/results.db"
        self._path, self._gate = folder / "lines", folder / "gate"
        self._workers: list[WorkerProcess] = []
        if str(APPS) not in sys.path:
            sys.path.insert(0, str(APPS))
        self.names: Any = importlib.import_module("own_queues").made(host.url, self._backend)

    def worker(self, queues: str, *options: str) -> WorkerProcess:
        """Start a worker of some queues; it ends with the scene."""
        worker = WorkerProcess(
            WORKER, "own_queues", broker=self.host.url, backend=self._backend,
            options=("-c", "1", "-Q", queues, "-n", f"{queues}{len(self._workers)}@%h", *options),
        )  # fmt: skip
        self._workers.append(worker)
        return worker.start(deadline_s=DEADLINE_S)

    def send(self, line: str, **options: Any) -> None:
        """Have a task write a line."""
        self.names.note.apply_async((str(self._path), line), **options)

    def hold(self, queue: str) -> None:
        """Have a task write ``begun`` and wait for the gate."""
        self.names.held.apply_async((str(self._path), str(self._gate)), queue=queue)

    def reject(self, queue: str) -> None:
        """Have a task write ``first`` and reject its message."""
        self.names.rejecting.apply_async((str(self._path), False), queue=queue)

    def open_gate(self) -> None:
        """Let go what is held."""
        self._gate.touch()

    def lines(self, count: int) -> list[str]:
        """Return what was written, once there are so many lines."""

        def written() -> list[str]:
            found = self._path.read_text().splitlines() if self._path.exists() else []
            assert len(found) >= count, found
            return found

        return eventually(written, deadline_s=DEADLINE_S, what=f"{count} lines")

    def close(self) -> None:
        """End everything."""
        self.open_gate()
        for worker in self._workers:
            worker.close()
        self.names.app.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with RabbitmqHost() as host:
        opened = Scene(host, tmp_path)
        yield opened
        opened.close()


def test_a_backlog_of_ten_priorities_runs_in_strict_order(scene: Scene, randomness: random.Random) -> None:
    backlog = [(nth % 10, nth) for nth in range(150)]
    randomness.shuffle(backlog)
    for priority, nth in backlog:
        scene.send(f"{priority}-{nth}", queue="ranked", priority=priority)
    scene.worker("ranked", "--prefetch-multiplier", "1")
    # High first; one priority is first in, first out.
    expected = [f"{priority}-{nth}" for priority, nth in sorted(backlog, key=lambda one: -one[0])]
    assert scene.lines(len(backlog)) == expected


def test_what_comes_later_and_is_more_urgent_overtakes_all_but_what_is_reserved(scene: Scene) -> None:
    scene.worker("ranked", "--prefetch-multiplier", "1")
    scene.hold("ranked")
    assert scene.lines(1) == ["begun"]
    plain, urgent = [f"plain{nth}" for nth in range(20)], [f"urgent{nth}" for nth in range(9)]
    for line in plain:
        scene.send(line, queue="ranked", priority=0)
    # One task is in the child, one is reserved behind it.
    eventually(lambda: scene.host.waiting("ranked") == 19, deadline_s=DEADLINE_S, what="one message is reserved")
    for nth, line in enumerate(urgent):
        scene.send(line, queue="ranked", priority=nth + 1)
    scene.open_gate()
    assert scene.lines(30) == ["begun", "plain0", *reversed(urgent), *plain[1:]]


def test_rejected_messages_and_unknown_keys_lead_where_the_arguments_say(scene: Scene) -> None:
    with Connection(scene.host.url) as connection:
        channel = connection.default_channel
        channel.exchange_declare("undelivered", "fanout", durable=True, auto_delete=False)
        channel.queue_declare("undelivered", durable=True, auto_delete=False)
        channel.queue_bind("undelivered", "undelivered", "")
        scene.worker("letters,strict")
        scene.reject("letters")
        assert scene.lines(1) == ["first"]
        dead = eventually(lambda: channel.basic_get("undelivered", no_ack=True), deadline_s=DEADLINE_S)
        death = dead.headers["x-death"][0]
        assert (death["queue"], death["reason"], death["count"]) == ("letters", "rejected", 1)
        scene.send("nobody's", exchange="strict", routing_key="another key")
        other = eventually(lambda: channel.basic_get("undelivered", no_ack=True), deadline_s=DEADLINE_S)
        assert other.delivery_info["routing_key"] == "another key"
        scene.send("somebody's", exchange="strict", routing_key="the one key")
        assert scene.lines(2) == ["first", "somebody's"]


def test_a_broadcast_runs_in_every_worker(scene: Scene) -> None:
    scene.worker("everyone")
    scene.worker("everyone,ranked")
    scene.send("heard", queue="everyone")
    assert scene.lines(2) == ["heard", "heard"]
    scene.send("after", queue="ranked")
    assert scene.lines(3) == ["heard", "heard", "after"]


def test_what_others_declared_is_used_as_it_is(scene: Scene) -> None:
    """A passive exchange is asked for, a queue that is not to be declared keeps its arguments."""
    with Connection(scene.host.url) as connection:
        channel = connection.default_channel
        channel.exchange_declare("given", "topic", durable=False, auto_delete=False)
        channel.queue_declare("quiet", durable=True, auto_delete=False, arguments={"x-max-length": 5})
    scene.worker("given,quiet")
    scene.send("by the exchange", exchange="given", routing_key="given.one")
    assert scene.lines(1) == ["by the exchange"]
    scene.send("by the queue", queue="quiet")
    assert scene.lines(2) == ["by the exchange", "by the queue"]
    assert scene.host.queue("quiet")["arguments"] == {"x-max-length": 5}
