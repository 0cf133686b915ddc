"""Settings of our own application that only show in a running worker."""

from __future__ import annotations

import base64
import json
import sys
import threading
from typing import TYPE_CHECKING, Any

import celery
import pytest
import redis
from celery.utils.nodenames import worker_direct as stock_worker_direct
from kombu.common import Broadcast

from pyworker import Celery
from pyworker.utils import worker_direct
from support.kinds import Kind
from support.redis_server import RedisServer
from support.waiting import eventually
from support.worker import WorkerProcess

if TYPE_CHECKING:
    from pathlib import Path

OWN_WORKER = Kind("pyworker-own", (sys.executable, "-m", "pyworker"), "fast")


class Stage:
    """A worker with settings, and an app to send it tasks."""

    def __init__(self, url: str, folder: Path, node: str = "own@%h", broadcast: str = "", **settings: Any) -> None:
        self.url = url
        self.journal = folder / "journal"
        self.journal.touch()
        environment = {
            "TEST_SETTINGS": json.dumps(settings), "TEST_JOURNAL": str(self.journal), "TEST_BROADCAST": broadcast,
        }  # fmt: skip
        self.worker = WorkerProcess(
            OWN_WORKER, "own_settings", broker=url, options=("-c", "1", "-n", node), environment=environment
        )
        self.app = Celery("client", broker=url, backend=url, set_as_current=False)

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
    with Stage(server.url, tmp_path, worker_max_memory_per_child=200_000) as stage:
        first = stage.send("swell", 1).get(timeout=30)
        assert stage.send("swell", 250).get(timeout=30) == first
        assert stage.send("swell", 1).get(timeout=30) != first
        stage.worker.wait_for_line("exceeding memory limit")
        assert len({note["process"] for note in stage.notes("forked")}) >= 2


def test_a_repeated_message_of_a_finished_task_is_not_run_again(server: RedisServer, tmp_path: Path) -> None:
    with Stage(server.url, tmp_path, worker_deduplicate_successful_tasks=True) as stage:
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
    with redis.Redis.from_url(stage.url) as client:
        client.lpush("celery", json.dumps(message))


def test_a_task_whose_child_died_is_sent_again_if_it_says_so(server: RedisServer, tmp_path: Path) -> None:
    with Stage(server.url, tmp_path) as stage:
        assert stage.send("dies_once").get(timeout=30) == 1
        stage.worker.wait_for_line(r"own_settings\.dies_once\[.*\] retry: Retry in 0s: WorkerLostError")


def test_receipts_are_signalled_in_the_main_process(server: RedisServer, tmp_path: Path) -> None:
    with Stage(server.url, tmp_path) as stage:
        result = stage.send("swell", 0)
        result.get(timeout=30)
        # The main process may tell it after the child is done.
        (note,) = eventually(lambda: stage.notes("received"))
        assert note == {"name": "received", "task": "own_settings.swell", "id": result.id, "process": stage.worker.pid}


@pytest.mark.parametrize(
    ("name", "value"),
    [("worker_consumer", "my:Consumer"), ("worker_pool_start_method", "spawn"), ("result_failure_expires", 5)],
)
def test_what_cannot_be_honoured_is_refused(server: RedisServer, tmp_path: Path, name: str, value: Any) -> None:
    stage = Stage(server.url, tmp_path, **{name: value})
    stage.worker.start(is_ready=False)
    try:
        assert stage.worker.wait() == 1
        assert f"{name}: {value!r} is not supported" in stage.worker.log
    finally:
        stage.__exit__()


def test_what_changes_nothing_is_told(server: RedisServer, tmp_path: Path) -> None:
    with Stage(server.url, tmp_path, beat_schedule={"a": {"task": "t", "schedule": 1}}, worker_lost_wait=3) as stage:
        stage.worker.wait_for_line(r"The setting beat_schedule has no effect: pyworker has no scheduler yet\.")
        stage.worker.wait_for_line(r"The setting worker_lost_wait has no effect: the kernel tells")


def test_messages_of_protocol_1_run(server: RedisServer, tmp_path: Path) -> None:
    with Stage(server.url, tmp_path) as stage:
        stage.app.conf.task_protocol = 1
        swell = [stage.app.signature("own_settings.swell", (0,), immutable=True) for _ in range(3)]
        result = (swell[0] | swell[1] | swell[2])()
        assert result.get(timeout=60) == result.parent.get(timeout=60) == result.parent.parent.get(timeout=60)


def test_a_worker_can_be_addressed_alone(server: RedisServer, tmp_path: Path) -> None:
    with Stage(server.url, tmp_path, worker_direct=True) as stage:
        name = stage.worker.node_name
        for queue in (worker_direct(name), f"{name}.dq2"):
            assert stage.send("swell", 0, queue=queue).get(timeout=60)
        stock = celery.Celery("stock", broker=server.url, backend=server.url, set_as_current=False)
        with stock:
            sent = stock.send_task("own_settings.swell", (0,), queue=stock_worker_direct(name))
            assert sent.get(timeout=60)


@pytest.mark.parametrize("broker", ["redis", "sqlite"])
def test_broadcasts_reach_every_worker_that_listens(broker: str, server: RedisServer, tmp_path: Path) -> None:
    """Tasks that are no broadcasts go on meanwhile."""
    url = server.url if broker == "redis" else f"sqlite:///{tmp_path}/queue.db"
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    stages = [Stage(url, folder, f"{folder.name}@%h", broadcast="all") for folder in folders]
    with stages[0] as first, stages[1] as second:
        first.app.conf.task_queues = [Broadcast("all")]
        for number in range(3):
            first.send("heard", number, queue="all", ignore_result=True)
        assert second.send("swell", 0, queue="celery").get(timeout=60)
        for stage in (first, second):
            eventually(lambda: len(stage.notes("heard")) == 3, deadline_s=60, what="every broadcast was heard")  # noqa: B023
            assert {note["number"] for note in stage.notes("heard")} == {0, 1, 2}
        with celery.Celery("stock", broker=url, set_as_current=False) as stock:
            stock.conf.task_queues = [Broadcast("all")]
            for number in range(3, 6):
                stock.send_task("own_settings.heard", (number,), queue="all", ignore_result=True)
            for stage in (first, second):
                eventually(lambda: len(stage.notes("heard")) == 6, deadline_s=60, what="a stock client is heard")  # noqa: B023
                assert {note["number"] for note in stage.notes("heard")} == set(range(6))


def test_a_store_that_comes_back_gets_every_result(server: RedisServer, tmp_path: Path) -> None:
    """``result_backend_always_retry`` waits for the store as long as it takes, in the worker and in the client."""
    with RedisServer() as store:
        settings = {"result_backend": store.url, "result_backend_always_retry": True}
        with Stage(server.url, tmp_path, **settings) as stage:
            stage.app.conf.update(settings)
            store.stop()
            result = stage.send("swell", 0)
            states: list[str] = []
            reader = threading.Thread(target=lambda: states.append(result.state))
            reader.start()
            eventually(lambda: not server.client.llen("celery") and not server.client.hlen("unacked"), deadline_s=60)
            assert not states
            store.start()
            reader.join(60)
            assert states
            assert eventually(lambda: result.state == "SUCCESS", deadline_s=60)
