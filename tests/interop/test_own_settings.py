"""Settings of our own application that only show in a running worker."""

from __future__ import annotations

import base64
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pyworker import Celery
from support.kinds import Kind
from support.waiting import eventually
from support.worker import WorkerProcess

if TYPE_CHECKING:
    from pathlib import Path

    from support.redis_server import RedisServer

OWN_WORKER = Kind("pyworker-own", (sys.executable, "-m", "pyworker"), "fast")


class Stage:
    """A worker with settings, and an app to send it tasks."""

    def __init__(self, server: RedisServer, folder: Path, **settings: Any) -> None:
        self.server = server
        self.journal = folder / "journal"
        self.journal.touch()
        environment = {"TEST_SETTINGS": json.dumps(settings), "TEST_JOURNAL": str(self.journal)}
        self.worker = WorkerProcess(
            OWN_WORKER, "own_settings", broker=server.url, options=("-c", "1"), environment=environment
        )
        self.app = Celery("client", broker=server.url, backend=server.url, set_as_current=False)

    def send(self, name: str, *args: Any, **options: Any) -> Any:
        """Send a task by its short name."""
        return self.app.send_task(f"own_settings.{name}", args, **options)

    def notes(self, name: str) -> list[dict[str, Any]]:
        """What the worker wrote down under a name."""
        return [note for line in self.journal.read_text().splitlines() if (note := json.loads(line))["name"] == name]

    def __enter__(self) -> Stage:
        self.worker.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.app.close()
        self.worker.close()


def test_a_child_that_grew_too_large_is_replaced(server: RedisServer, tmp_path: Path) -> None:
    with Stage(server, tmp_path, worker_max_memory_per_child=200_000) as stage:
        first = stage.send("swell", 1).get(timeout=30)
        assert stage.send("swell", 250).get(timeout=30) == first
        assert stage.send("swell", 1).get(timeout=30) != first
        stage.worker.wait_for_line("exceeding memory limit")
        assert len({note["process"] for note in stage.notes("forked")}) >= 2


def test_a_repeated_message_of_a_finished_task_is_not_run_again(server: RedisServer, tmp_path: Path) -> None:
    with Stage(server, tmp_path, worker_deduplicate_successful_tasks=True) as stage:
        follower = stage.app.signature("own_settings.swell", (0,), immutable=True)
        result = stage.send("once", task_id="the-one", link=follower)
        assert result.get(timeout=30)
        repeat(stage, "the-one")
        stage.worker.wait_for_line("the-one.*Task already completed successfully")
        assert [note["redelivered"] for note in stage.notes("once")] == [False]
        # Another message that comes again, of a task that has no result, is run.
        repeat(stage, "another")
        eventually(lambda: len(stage.notes("once")) == 2, what="the other one ran")
        assert stage.notes("once")[1]["redelivered"] is True


def repeat(stage: Stage, task_id: str) -> None:
    """Put a message into the queue as a broker that delivers it again does."""
    headers = {"lang": "py", "task": "own_settings.once", "id": task_id, "root_id": task_id, "retries": 0}
    message = {
        "body": base64.b64encode(b'[[],{},{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]').decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {**headers, "redelivered": True},
        "properties": {
            "correlation_id": task_id, "delivery_mode": 2, "delivery_tag": f"tag-{task_id}", "priority": 0,
            "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": "celery", "redelivered": True},
        },
    }  # fmt: skip
    stage.server.client.lpush("celery", json.dumps(message))


def test_a_task_whose_child_died_is_sent_again_if_it_says_so(server: RedisServer, tmp_path: Path) -> None:
    with Stage(server, tmp_path) as stage:
        assert stage.send("dies_once").get(timeout=30) == 1
        stage.worker.wait_for_line(r"own_settings\.dies_once\[.*\] retry: Retry in 0s: WorkerLostError")


def test_receipts_are_signalled_in_the_main_process(server: RedisServer, tmp_path: Path) -> None:
    with Stage(server, tmp_path) as stage:
        result = stage.send("swell", 0)
        result.get(timeout=30)
        # The main process may tell it after the child is done.
        (note,) = eventually(lambda: stage.notes("received"))
        assert note == {"name": "received", "task": "own_settings.swell", "id": result.id, "process": stage.worker.pid}


@pytest.mark.parametrize(
    ("name", "value"), [("worker_consumer", "my:Consumer"), ("worker_pool_start_method", "spawn"), ("task_protocol", 1)]
)
def test_what_cannot_be_honoured_is_refused(server: RedisServer, tmp_path: Path, name: str, value: Any) -> None:
    stage = Stage(server, tmp_path, **{name: value})
    stage.worker.start(is_ready=False)
    try:
        assert stage.worker.wait() == 1
        assert f"{name}: {value!r} is not supported" in stage.worker.log
    finally:
        stage.__exit__()
