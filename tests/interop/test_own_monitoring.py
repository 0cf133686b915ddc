"""Remote control and events of a worker of our own app, without celery in its process, asked by the stock client."""

from __future__ import annotations

import importlib
import sys
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import celery
import pytest

from support.kinds import Kind
from support.redis_server import RedisServer
from support.waiting import eventually
from support.worker import APPS, WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::PendingDeprecationWarning",
    # Sockets of the stock client.
    "ignore::pytest.PytestUnraisableExceptionWarning",
)

OWN_WORKER = Kind("pyworker-own", (sys.executable, "-m", "pyworker"), "fast")
ENVIRONMENT = {"TEST_LIBRARY": "pyworker", "TEST_WITHOUT_CELERY": "1"}


class Node(NamedTuple):
    """A worker, and the stock client's application."""

    api: Any
    worker: WorkerProcess
    server: RedisServer

    def ask(self, command: str, **arguments: Any) -> Any:
        """Return the reply to a command."""

        def reply() -> Any:
            replies = self.api.app.control.broadcast(command, arguments=arguments, reply=True, timeout=8, limit=1)
            assert replies, f"no reply to {command}"
            return [next(iter(replies[0].values()))]

        return eventually(reply, deadline_s=30)[0]


@pytest.fixture(scope="module")
def state_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the node keeps its revokes."""
    return tmp_path_factory.mktemp("state") / "db"


@pytest.fixture(scope="module")
def node(state_path: Path) -> Iterator[Node]:
    """One node for the module's tests."""
    if str(APPS) not in sys.path:
        sys.path.insert(0, str(APPS))
    options = ("-c", "2", "-E", "--statedb", str(state_path))
    with (
        RedisServer() as server,
        WorkerProcess(OWN_WORKER, "own_api", broker=server.url, environment=ENVIRONMENT, options=options) as worker,
    ):
        api = importlib.import_module("own_api").make(celery, server.url, server.url)
        yield Node(api, worker, server)
        api.app.close()


@pytest.mark.parametrize(
    ("command", "arguments", "expected"),
    [
        ("ping", {}, {"ok": "pong"}),
        ("rate_limit", {"task_name": "own.mul", "rate_limit": "100/s"}, {"ok": "new rate limit set successfully"}),
        ("rate_limit", {"task_name": "own.mul", "rate_limit": 0}, {"ok": "rate limit disabled successfully"}),
        ("rate_limit", {"task_name": "none", "rate_limit": "1/s"}, {"error": "unknown task"}),
        ("time_limit", {"task_name": "own.mul", "soft": 5, "hard": 9}, {"ok": "time limits set successfully"}),
        ("time_limit", {"task_name": "none"}, {"error": "unknown task"}),
        ("enable_events", {}, {"ok": "task events already enabled"}),
        ("disable_events", {}, {"ok": "task events disabled"}),
        ("enable_events", {}, {"ok": "task events enabled"}),
        ("heartbeat", {}, None),
        ("election", {"id": "1", "topic": "t"}, None),
        ("pool_restart", {}, {"error": "ValueError('Pool restarts not enabled')"}),
        ("autoscale", {"max": 3}, {"error": "ValueError('Autoscale not enabled')"}),
        ("query_task", {"ids": ["nobody"]}, {}),
        ("terminate", {"signal": "KILL", "task_id": "nobody"}, {"ok": "terminate: tasks unknown"}),
    ],
)
def test_commands_answer_in_celerys_words(node: Node, command: str, arguments: dict[str, Any], expected: Any) -> None:
    assert node.ask(command, **arguments) == expected


def test_another_queue_is_consumed_and_left_again(node: Node) -> None:
    assert node.ask("add_consumer", queue="further") == {"ok": "add consumer further"}
    assert node.api.add.apply_async((1, 2), queue="further").get(timeout=20) == 3
    assert [queue["name"] for queue in node.ask("active_queues")] == ["celery", "further"]
    assert node.ask("cancel_consumer", queue="further") == {"ok": "no longer consuming from further"}
    assert [queue["name"] for queue in node.ask("active_queues")] == ["celery"]
    node.api.add.apply_async((1, 2), queue="further", task_id="left-alone")
    assert node.api.add.delay(1, 1).get(timeout=20) == 2
    assert node.server.client.llen("further") == 1


def test_the_pool_grows_and_shrinks(node: Node) -> None:
    assert node.ask("pool_grow", n=2) == {"ok": "pool will grow"}
    eventually(lambda: len(node.ask("stats")["pool"]["processes"]) == 4)
    assert node.ask("pool_shrink", n=2) == {"ok": "pool will shrink"}
    eventually(lambda: len(node.ask("stats")["pool"]["processes"]) == 2)
    assert node.api.add.delay(2, 2).get(timeout=20) == 4


def test_events_tell_what_happens_to_a_task(node: Node) -> None:
    seen: list[dict[str, Any]] = []
    is_open, stopping = threading.Event(), threading.Event()

    def listen() -> None:
        with node.api.app.connection_for_read() as connection:
            receiver = node.api.app.events.Receiver(connection, handlers={"*": seen.append})
            with receiver.consumer_context() as (drained, _channel, _consumers):
                is_open.set()
                while not stopping.is_set():
                    try:
                        drained.drain_events(timeout=0.5)
                    except TimeoutError:
                        continue

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        eventually(lambda: any(event["type"] == "worker-heartbeat" for event in seen), deadline_s=30)
        node.api.add.apply_async((4, 4), task_id="watched")
        node.api.fail.apply_async(("why",), task_id="failing")

        def types(task_id: str) -> list[str]:
            events = sorted((event for event in seen if event.get("uuid") == task_id), key=lambda event: event["clock"])
            return [event["type"] for event in events]

        eventually(lambda: types("watched") == ["task-received", "task-started", "task-succeeded"], deadline_s=30)
        eventually(lambda: types("failing") == ["task-received", "task-started", "task-failed"], deadline_s=30)
    finally:
        stopping.set()
        listener.join(10)
    failed = next(event for event in seen if event["type"] == "task-failed")
    assert "why" in failed["exception"]
    assert failed["traceback"].startswith("Traceback")


def test_revokes_outlive_the_worker(node: Node, state_path: Path) -> None:
    """Last: it ends the node."""
    reply = node.ask("revoke", task_id="remembered")
    assert reply == {"ok": "tasks {'remembered'} flagged as revoked"}
    assert "remembered" in node.ask("revoked")
    assert node.worker.stop() == 0
    assert list(state_path.parent.glob("db*"))
    options = ("-c", "1", "--statedb", str(state_path))
    broker = node.server.url
    with WorkerProcess(OWN_WORKER, "own_api", broker=broker, environment=ENVIRONMENT, options=options) as successor:
        result = node.api.add.apply_async((1, 1), task_id="remembered")
        successor.wait_for_line(r"Discarding revoked task: own\.add\[remembered\]", deadline_s=30)
        eventually(lambda: result.state == "REVOKED", deadline_s=20)
