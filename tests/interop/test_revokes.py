"""Revokes on every broker: kept in a file between runs, told to neighbours, by id and by stamped header."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import celery
import pytest

import pyworker
from support.kinds import Kind
from support.rabbitmq_server import RabbitmqHost
from support.redis_server import RedisServer
from support.waiting import eventually
from support.worker import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning"),
]

OURS = Kind("pyworker", (sys.executable, "-m", "pyworker"), "fast")
_DEADLINE_S = 60.0


class Fleet:
    """Workers of one application on one broker, and a client of it."""

    def __init__(self, stack: ExitStack, broker: str, backend: str, library: Any) -> None:
        self._stack = stack
        self._urls = {"broker": broker, "backend": backend}
        self._library = library
        self.app: Any = library.Celery("client", **self._urls, set_as_current=False)
        self.app.conf.task_default_queue = "filed"
        stack.callback(self.app.close)

    def start(self, name: str, *options: str) -> WorkerProcess:
        worker = WorkerProcess(
            OURS, "filed", options=("-c", "1", "-n", f"{name}@%h", *options),
            environment={"TEST_LIBRARY": self._library.__name__}, **self._urls,
        )  # fmt: skip
        return self._stack.enter_context(worker)

    def ask(self, worker: WorkerProcess, command: str, **arguments: Any) -> Any:
        """Return one worker's reply."""

        def replies() -> Any:
            return self.app.control.broadcast(
                command, arguments=arguments, destination=[worker.node_name], reply=True, timeout=10, limit=1
            )

        (reply,) = eventually(replies, deadline_s=_DEADLINE_S, what=f"a reply to {command}")
        return reply[worker.node_name]


@pytest.fixture(
    params=[
        pytest.param(("redis", celery), id="redis-celery"),
        pytest.param(("sqlite", pyworker), id="sqlite-own"),
        pytest.param(("sqlite", celery), id="sqlite-celery"),
        pytest.param(("rabbitmq", celery), id="rabbitmq-celery", marks=pytest.mark.xdist_group("rabbitmq")),
    ]
)
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    broker, library = request.param
    with ExitStack() as stack:
        if broker == "sqlite":
            urls = [f"sqlite:///{tmp_path}/queue.db"] * 2
        else:
            server = stack.enter_context(RedisServer())
            urls = [stack.enter_context(RabbitmqHost()).url if broker == "rabbitmq" else server.url, server.url]
        yield Fleet(stack, *urls, library)


def test_revokes_are_remembered_and_told_to_neighbours(fleet: Fleet, tmp_path: Path) -> None:
    state = ("--statedb", str(tmp_path / "state"))
    first = fleet.start("first", *state)
    assert fleet.ask(first, "revoke", task_id="remembered") == {"ok": "tasks {'remembered'} flagged as revoked"}
    assert first.stop() == 0
    neighbour = fleet.start("neighbour", "-Q", "elsewhere")
    assert fleet.ask(neighbour, "revoked") == []
    again = fleet.start("again", *state)
    # From its file, and told to who was there when it came.
    assert fleet.ask(again, "revoked") == ["remembered"]
    eventually(lambda: fleet.ask(neighbour, "revoked") == ["remembered"], deadline_s=_DEADLINE_S)
    add = fleet.app.signature("filed.add", (1, 1))
    revoked = add.apply_async(task_id="remembered")
    again.wait_for_line(r"Discarding revoked task: filed\.add\[remembered\]", deadline_s=_DEADLINE_S)
    eventually(lambda: revoked.state == "REVOKED", deadline_s=_DEADLINE_S)
    fleet.ask(again, "revoke_by_stamped_headers", headers={"shift": ["night"]})
    night, day = (add.apply_async(task_id=shift, stamped_headers=["shift"], shift=shift) for shift in ("night", "day"))
    assert day.get(timeout=_DEADLINE_S) == 2
    again.wait_for_line(r"Discarding revoked task: filed\.add\[night\]", deadline_s=_DEADLINE_S)
    eventually(lambda: night.state == "REVOKED", deadline_s=_DEADLINE_S)
