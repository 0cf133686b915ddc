"""One SQLite file between both libraries' clients and both workers: every pairing gives the same results."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import celery
import pytest

import pyworker
from pyworker.transport.sqlite_file import open_file
from pyworker.transport.sqlite_url import parse_sqlite_url
from support.kinds import Kind
from support.waiting import eventually
from support.worker import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyworker._native import SqliteFile

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")

OURS = Kind("pyworker", (sys.executable, "-m", "pyworker"), "fast")
STOCK = Kind("stock", (sys.executable, "-m", "celery"), "fast")
PAIRINGS = {
    "own client, own worker": (pyworker, OURS, "pyworker"),
    "stock client, own worker of a Celery app": (celery, OURS, "celery"),
    "own client, stock worker": (pyworker, STOCK, "celery"),
    "stock client, stock worker": (celery, STOCK, "celery"),
}
DEADLINE_S = 30.0


class Pairing(NamedTuple):
    """A client's application, and the worker that runs its tasks."""

    app: Any
    library: Any
    worker: WorkerProcess
    file: SqliteFile

    def task(self, name: str) -> Any:
        """A signature of a task of the worker's application."""
        return self.app.signature(f"filed.{name}")


@pytest.fixture(scope="module", params=PAIRINGS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pairing]:
    """One worker for the module's tests."""
    library, kind, worker_library = PAIRINGS[request.param]
    url = f"sqlite:///{tmp_path_factory.mktemp('sqlite')}/queue.db"
    app = library.Celery("client", broker=url, backend=url, set_as_current=False)
    app.conf.task_default_queue = "filed"
    with WorkerProcess(kind, "filed", broker=url, environment={"TEST_LIBRARY": worker_library}) as worker:
        yield Pairing(app, library, worker, open_file(parse_sqlite_url(url, setting="test"), setting="test"))
    app.close()


def test_results_and_failures(pair: Pairing) -> None:
    assert pair.task("add").apply_async((20, 22)).get(timeout=DEADLINE_S) == 42
    failed = pair.task("fail").apply_async(("as it should",))
    assert isinstance(failed.get(timeout=DEADLINE_S, propagate=False), ValueError)
    assert failed.state == "FAILURE"


def test_groups_chains_and_chords(pair: Pairing) -> None:
    add, total = pair.task("add"), pair.task("total")
    header = [add.clone((number, number)) for number in range(12)]
    assert pair.library.group(header, app=pair.app)().get(timeout=DEADLINE_S) == [2 * number for number in range(12)]
    assert (add.clone((1, 2)) | add.clone((10,))).apply_async().get(timeout=DEADLINE_S) == 13
    assert pair.library.chord(header, app=pair.app)(total).get(timeout=DEADLINE_S) == 132


def test_an_eta_waits_in_the_file(pair: Pairing) -> None:
    begun = time.monotonic()
    assert pair.task("add").apply_async((1, 1), countdown=1).get(timeout=DEADLINE_S) == 2
    assert time.monotonic() - begun >= 1


def test_nothing_is_left_behind(pair: Pairing) -> None:
    pair.task("add").apply_async((0, 0)).get(timeout=DEADLINE_S)
    eventually(lambda: all(not any(counts) for _name, *counts in pair.file.queues()), what="no message is left")
    assert pair.file.problems() == []


def test_workers_answer_remote_control(pair: Pairing) -> None:
    answers = eventually(lambda: pair.app.control.ping(timeout=10, limit=1), what="an answer to ping")
    assert [list(answer.values()) for answer in answers] == [[{"ok": "pong"}]]


def test_nobody_waits_for_neighbours_that_are_not_there(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/queue.db"

    def begin(kind: Kind, name: str, library: str) -> WorkerProcess:
        options, environment = ("-c", "1", "-n", f"{name}@%h"), {"TEST_LIBRARY": library}
        workers.append(WorkerProcess(kind, "filed", broker=url, options=options, environment=environment))
        return workers[-1].start()

    workers: list[WorkerProcess] = []
    file = open_file(parse_sqlite_url(url, setting="test"), setting="test")
    try:
        begin(OURS, "own", "pyworker").wait_for_line("mingle: all alone", deadline_s=60)
        # Nobody was there to be asked, so nobody was.
        assert file.last_broadcast() == 0
        begin(OURS, "adapted", "celery").wait_for_line("mingle: sync with 1 nodes", deadline_s=60)
        # It answers, but asks on Redis and RabbitMQ alone.
        begin(STOCK, "stock", "celery")
        for worker in workers[:2]:
            os.kill(worker.pid, signal.SIGKILL)
            worker.wait(deadline_s=60)
        begin(OURS, "second", "pyworker").wait_for_line("mingle: sync with 1 nodes", deadline_s=60)
        # What was asked and answered is forgotten.
        eventually(
            lambda: not [name for name, *_ in file.queues() if "reply" in name], deadline_s=60, what="no replies"
        )
    finally:
        for worker in workers:
            worker.close()
