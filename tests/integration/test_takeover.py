"""Celery's own commands on our engine: ``PYWORKER=1``, ``pyworker.install()``, ``celery pyworker``."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.kinds import Kind
from support.redis_server import RedisServer
from support.stage import load_app
from support.worker import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

OWN_WORKERS = {
    "PYWORKER=1 celery worker": ((sys.executable, "-m", "celery"), ("-c", "1"), {"PYWORKER": "1"}),
    "install() and worker_main()": ((sys.executable, "-m", "wrapped"), ("-c", "1"), {}),
    "celery pyworker": ((sys.executable, "-m", "celery"), ("-c", "1"), {}),
}
ENGINE_MARK = r"engine: +pyworker"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """One server for all of them."""
    with RedisServer() as running:
        yield running


@pytest.mark.parametrize("how", OWN_WORKERS)
def test_celerys_worker_runs_on_our_engine(how: str, server: RedisServer) -> None:
    command, options, environment = OWN_WORKERS[how]
    kind = Kind("pyworker-taken-over", command, "fast")
    worker = WorkerProcess(kind, "tasks", broker=server.url, options=options, environment=environment)
    if how == "celery pyworker":
        worker._command.insert(worker._command.index("worker"), "pyworker")
    try:
        worker.start()
        worker.wait_for_line(ENGINE_MARK)
        module = load_app("tasks", broker=server.url)
        assert module.add.delay(20, 22).get(timeout=30) == 42
        [reply] = module.app.control.ping(timeout=10, destination=[worker.node_name])
        assert reply == {worker.node_name: {"ok": "pong"}}
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
    finally:
        worker.close()


def test_option_that_is_not_there_is_refused_by_celerys_command_too(server: RedisServer) -> None:
    kind = Kind("pyworker-taken-over", (sys.executable, "-m", "celery"), "fast")
    worker = WorkerProcess(
        kind,
        "tasks",
        broker=server.url,
        options=("-B",),
        environment={"PYWORKER": "1"},
        directory=Path(__file__).parent,
    )
    try:
        worker.start(is_ready=False)
        assert worker.wait() == 1
        assert "-B/--beat: periodic tasks are not sent by this worker yet" in worker.log
    finally:
        worker.close()
