"""Waiting for results: no lost wake-up, no hang, whatever happens in between."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis

import pyworker
from pyworker import exceptions
from pyworker.backends.stored_exceptions import exception_from_stored
from support.redis_server import RedisServer
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def app(shared_server: RedisServer) -> Iterator[pyworker.Celery]:
    """An app with results on the module's server."""
    shared_server.client.flushall()
    made = pyworker.Celery("results", backend=shared_server.url_with("", 3), set_as_current=False)
    yield made
    made.close()


def finish(app: pyworker.Celery, task_id: str, value: Any = 1, state: str = "SUCCESS") -> None:
    """Store a result as a worker would."""
    app.backend.store_result(task_id, value, state)


def finish_when_waited_for(app: pyworker.Celery, server: RedisServer, task_id: str, value: Any = 1) -> threading.Thread:
    """Store a result once somebody has subscribed to it."""

    def work() -> None:
        channel = f"celery-task-meta-{task_id}"
        eventually(lambda: dict(server.client.pubsub_numsub(channel))[channel], what="somebody waits")
        finish(app, task_id, value)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_result_that_is_there_is_read(app: pyworker.Celery) -> None:
    finish(app, "a", {"x": [1]})
    assert app.AsyncResult("a").get(timeout=1) == {"x": [1]}


def test_a_result_that_comes_later_wakes_the_waiter(app: pyworker.Celery, shared_server: RedisServer) -> None:
    thread = finish_when_waited_for(app, shared_server, "b", 2)
    assert app.AsyncResult("b").get(timeout=30) == 2
    thread.join()


def test_a_result_without_announcement_is_found_too(app: pyworker.Celery, shared_server: RedisServer) -> None:
    channel = "celery-task-meta-c"
    meta = {"status": "SUCCESS", "result": 3, "traceback": None, "children": [], "task_id": "c"}

    def work() -> None:
        eventually(lambda: dict(shared_server.client.pubsub_numsub(channel))[channel], what="somebody waits")
        with redis.Redis.from_url(shared_server.url_with("", 3)) as client:
            client.set(channel, json.dumps(meta))

    thread = threading.Thread(target=work)
    thread.start()
    assert app.AsyncResult("c").get(timeout=30) == 3
    thread.join()


def test_a_timeout_is_kept(app: pyworker.Celery) -> None:
    begin = time.monotonic()
    with pytest.raises(exceptions.TimeoutError, match="The operation timed out."):
        app.AsyncResult("never").get(timeout=0.2)
    assert 0.15 < time.monotonic() - begin < 5


def test_the_subscription_survives_a_broken_connection(app: pyworker.Celery, shared_server: RedisServer) -> None:
    channel = "celery-task-meta-d"

    def work() -> None:
        eventually(lambda: dict(shared_server.client.pubsub_numsub(channel))[channel], what="somebody waits")
        shared_server.client.client_kill_filter(_type="pubsub")
        eventually(lambda: dict(shared_server.client.pubsub_numsub(channel))[channel], what="somebody waits again")
        finish(app, "d", 4)

    thread = threading.Thread(target=work)
    thread.start()
    assert app.AsyncResult("d").get(timeout=15) == 4
    thread.join()


def test_a_dead_server_ends_the_wait() -> None:
    with RedisServer() as server:
        app = pyworker.Celery("dead", backend=server.url, set_as_current=False)
        result = app.AsyncResult("e")

        def work() -> None:
            channel = "celery-task-meta-e"
            eventually(lambda: dict(server.client.pubsub_numsub(channel))[channel], what="somebody waits")
            server.stop(kill=True)

        thread = threading.Thread(target=work)
        thread.start()
        with pytest.raises((exceptions.TimeoutError, exceptions.OperationalError)):
            result.get(timeout=2)
        thread.join()
        app.close()


def test_many_threads_wait_at_the_same_time(app: pyworker.Celery) -> None:
    values: dict[int, Any] = {}

    def wait(number: int) -> None:
        values[number] = app.AsyncResult(f"t{number}").get(timeout=20)

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for number in range(16):
        finish(app, f"t{number}", number)
    for thread in threads:
        thread.join()
    assert values == {number: number for number in range(16)}


def test_a_group_waits_for_all_and_raises_the_first_failure(app: pyworker.Celery) -> None:
    results = [app.AsyncResult(f"g{number}") for number in range(1200)]
    for number in range(1200):
        finish(app, f"g{number}", number)
    assert pyworker.GroupResult("g", results, app=app).get(timeout=20) == list(range(1200))
    failing = pyworker.GroupResult("f", [app.AsyncResult("f0"), app.AsyncResult("f1")], app=app)
    finish(app, "f1", ValueError("second"), "FAILURE")
    with pytest.raises(ValueError, match="second"):
        failing.get(timeout=30)


def test_a_wait_inside_a_wait(app: pyworker.Celery) -> None:
    for name in ("x", "y"):
        finish(app, name, name)
    seen = [
        (task_id, app.AsyncResult("y").get(timeout=5))
        for task_id, _ in pyworker.ResultSet([app.AsyncResult("x")], app=app).iter_native(timeout=5)
    ]
    assert seen == [("x", "y")]


def test_a_stored_success_stays(app: pyworker.Celery) -> None:
    finish(app, "s", 1)
    finish(app, "s", ValueError("late"), "FAILURE")
    assert app.AsyncResult("s").state == "SUCCESS"


def test_states(app: pyworker.Celery) -> None:
    result = app.AsyncResult("st")
    assert (result.state, result.ready(), result.result) == ("PENDING", False, None)
    finish(app, "st", {"done": 1}, "PROGRESS")
    assert (result.state, result.info) == ("PROGRESS", {"done": 1})
    finish(app, "st", KeyError("k"), "FAILURE")
    assert result.failed()
    assert isinstance(result.result, KeyError)
    result.forget()
    assert app.AsyncResult("st").state == "PENDING"


def test_groups_are_saved_and_restored(app: pyworker.Celery) -> None:
    whole = pyworker.GroupResult("sg", [app.AsyncResult("1"), app.AsyncResult("2")], app=app)
    whole.save()
    assert pyworker.GroupResult.restore("sg", app=app) == whole
    whole.delete()
    assert pyworker.GroupResult.restore("sg", app=app) is None


def test_no_store_says_so() -> None:
    app = pyworker.Celery("none", set_as_current=False)
    with pytest.raises(NotImplementedError, match="No result backend is configured"):
        app.AsyncResult("id").get(timeout=1)


def test_exceptions_come_back_as_themselves() -> None:
    made = exception_from_stored({"exc_type": "KeyError", "exc_module": "builtins", "exc_message": ["k"]})
    assert isinstance(made, KeyError)
    renamed = exception_from_stored({"exc_type": "Gone", "exc_module": "not.imported", "exc_message": ["x", 1]})
    assert type(renamed).__name__ == "Gone"
    assert renamed is not None
    assert renamed.args == ("x", 1)
    with pytest.raises(exceptions.SecurityError, match=r"os\.system"):
        exception_from_stored({"exc_type": "system", "exc_module": "os", "exc_message": ["true"]})
