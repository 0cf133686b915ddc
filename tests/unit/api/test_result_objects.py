"""Results as objects: sets of them, graphs, callbacks, plain data."""

from __future__ import annotations

import copy
import os
import pickle
import threading
from datetime import datetime
from io import StringIO
from typing import TYPE_CHECKING, Any

import celery
import pytest

import pyworker
from pyworker import exceptions
from pyworker.backends.stored_exceptions import exception_from_stored
from pyworker.result import GroupResult, ResultSet, result_from_tuple
from pyworker.result.graph import DependencyGraph, GraphFormatter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.redis_server import RedisServer


@pytest.fixture
def app(shared_server: RedisServer) -> Iterator[pyworker.Celery]:
    """An app with results on the module's server."""
    shared_server.client.flushall()
    made = pyworker.Celery("objects", backend=shared_server.url_with("", 5), set_as_current=False)
    yield made
    made.close()


def finish(app: pyworker.Celery, task_id: str, value: Any = 1, state: str = "SUCCESS", **request: Any) -> None:
    app.backend.store_result(task_id, value, state, request=pyworker.request.Context(request) if request else None)


def several(app: pyworker.Celery, *ids: str) -> list[Any]:
    return [app.AsyncResult(task_id) for task_id in ids]


def test_sets_have_members(app: pyworker.Celery) -> None:
    one, two, three = several(app, "1", "2", "3")
    whole = ResultSet([one, two], app=app)
    whole.add(two)
    whole.update([three, one])
    assert list(whole) == [one, two, three]
    whole.remove("2")
    whole.discard(two)
    assert (len(whole), whole[1], repr(whole)) == (2, three, "<ResultSet: [1, 3]>")
    with pytest.raises(KeyError):
        whole.remove(two)
    whole.clear()
    assert len(whole) == 0
    assert ResultSet([], app=app) == ResultSet([], app=app)
    assert not GroupResult(None, [], app=app)
    assert GroupResult("g", [], app=app)
    with pytest.raises(TypeError, match="unhashable"):
        hash(whole)


def test_sets_look_at_their_members(app: pyworker.Celery) -> None:
    inner = GroupResult("inner", several(app, "c", "d"), app=app)
    whole = ResultSet([*several(app, "a", "b"), inner], app=app)
    assert whole.waiting()
    assert (whole.ready(), whole.successful(), whole.failed(), whole.completed_count()) == (False, False, False, 0)
    for task_id in "ac":
        finish(app, task_id)
    assert (whole.ready(), whole.completed_count()) == (False, 1)
    finish(app, "b", ValueError("b"), "FAILURE")
    finish(app, "d")
    assert (whole.ready(), whole.successful(), whole.failed(), whole.completed_count()) == (True, False, True, 2)
    with pytest.raises(ValueError, match="b"):
        whole.maybe_throw()


def test_joining(app: pyworker.Celery) -> None:
    whole = ResultSet(several(app, "a", "b", "c"), app=app)
    for task_id in "cab":
        finish(app, task_id, task_id)
    seen: list[Any] = []
    assert whole.join(timeout=5) == whole.join_native(timeout=5) == whole.get(timeout=5) == ["a", "b", "c"]
    assert sorted(whole.iterate(timeout=5)) == ["a", "b", "c"]
    assert whole.join(callback=lambda *each: seen.append(each)) == []
    assert whole.join_native(callback=lambda *each: seen.append(each)) is None
    assert sorted(set(seen)) == [("a", "a"), ("b", "b"), ("c", "c")]
    assert dict(whole.iter_native(timeout=5)).keys() == {"a", "b", "c"}
    with pytest.raises(exceptions.TimeoutError):
        ResultSet(several(app, "a", "never"), app=app).join(timeout=0.1)
    with pytest.raises(exceptions.TimeoutError):
        ResultSet(several(app, "a", "never"), app=app).get(timeout=0.1)


def test_the_same_task_twice(app: pyworker.Celery) -> None:
    finish(app, "t", 7)
    assert ResultSet(several(app, "t", "t"), app=app).get(timeout=5) == [7, 7]


def test_callbacks(app: pyworker.Celery) -> None:
    seen: list[Any] = []
    result = app.AsyncResult("a")
    result.then(seen.append)
    whole = ResultSet([result, app.AsyncResult("b")], app=app)
    whole.then(seen.append)
    assert not result.ready()
    finish(app, "a")
    assert result.ready()
    assert seen == [result]
    finish(app, "b", KeyError("k"), "FAILURE")
    whole.get(timeout=5, propagate=False)
    assert seen == [result, whole]
    app.AsyncResult("b").then(seen.append, on_error=lambda error: seen.append(str(error))).ready()
    result.then(seen.append)
    assert seen[2:] == ["'k'", result]


def test_parents_failures_are_raised(app: pyworker.Celery) -> None:
    finish(app, "up", ValueError("up"), "FAILURE")
    child = app.AsyncResult("down", parent=app.AsyncResult("up"))
    with pytest.raises(ValueError, match="up"):
        child.get(timeout=30)
    with pytest.raises(exceptions.TimeoutError):
        child.get(timeout=0.1, follow_parents=False)


def test_what_is_known_of_a_task(app: pyworker.Celery) -> None:
    app.conf.result_extended = True
    result = app.AsyncResult("x")
    assert not result.exists()
    delivery = {"routing_key": "q"}
    finish(app, "x", 5, task="t.t", args=[1], kwargs={"a": 2}, hostname="w@h", retries=3, delivery_info=delivery)
    assert result.exists()
    assert (result.name, result.args, result.kwargs, result.worker) == ("t.t", [1], {"a": 2}, "w@h")
    assert (result.retries, result.queue, result.children) == (3, "q", [])
    assert isinstance(result.date_done, datetime)
    assert result.date_done.tzinfo is not None


def test_results_as_plain_data(app: pyworker.Celery) -> None:
    parent = app.AsyncResult("p")
    whole = GroupResult("g", several(app, "1", "2"), parent=parent, app=app)
    again = result_from_tuple(whole.as_tuple(), app)
    assert again == whole
    assert again.parent == parent
    assert result_from_tuple(again, app) is again
    assert (whole.as_list(), app.AsyncResult("c", parent=parent).as_list()) == (["g", "p"], ["c", "p"])
    assert result_from_tuple(["1", None], app) == app.AsyncResult("1") == "1"
    app.set_current()
    for carried in (pickle.loads(pickle.dumps(whole)), copy.copy(whole)):
        assert carried.results == whole.results
    assert copy.copy(parent) == pickle.loads(pickle.dumps(parent)) == parent
    assert {parent: 1}[app.AsyncResult("p")] == 1
    with pytest.raises(ValueError, match="requires valid id"):
        app.AsyncResult(None)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_graphs_are_drawn_as_celerys(app: pyworker.Celery, shared_server: RedisServer) -> None:
    for task_id, children in {"root": ["left", "right"], "left": ["leaf"], "right": [], "leaf": []}.items():
        finish(app, task_id, task_id, _children=several(app, *children))
    stock = celery.Celery("stock", backend=shared_server.url_with("", 5), set_as_current=False)
    drawn = []
    for result in (stock.AsyncResult("root"), app.AsyncResult("root")):
        picture = StringIO()
        result.graph.to_dot(picture)
        drawn.append((repr(result.graph), picture.getvalue(), [node.id for node, _ in result.collect()]))
    stock.close()
    assert drawn[1] == drawn[0]
    assert drawn[1][0].splitlines()[0] == "root(3)"


def test_graphs_without_an_end(app: pyworker.Celery) -> None:
    result = app.AsyncResult("unknown")
    with pytest.raises(exceptions.IncompleteStream):
        result.build_graph()
    assert len(result.build_graph(intermediate=True)) == 1
    graph = DependencyGraph([("a", ["b", "c"]), ("b", ["c"]), ("c", [])], formatter=GraphFormatter(type="graph"))
    assert graph.topsort() == ["c", "b", "a"]
    assert (graph.valency_of("a"), list(graph.edges()), "c" in graph, len(graph)) == (3, ["a", "b"], True, 3)
    picture = StringIO()
    graph.to_dot(picture)
    assert '"a" -- "b"' in picture.getvalue()


def test_waiting_works_in_a_forked_process(app: pyworker.Celery, shared_server: RedisServer) -> None:
    finish(app, "before", 1)
    assert app.AsyncResult("before").get(timeout=5) == 1
    with pytest.raises(exceptions.TimeoutError):
        app.AsyncResult("opens the subscription").get(timeout=0.05)
    child = os.fork()
    if child == 0:
        try:
            value = app.AsyncResult("later").get(timeout=20)
            os._exit(0 if value == 5 else 1)
        finally:
            os._exit(2)
    finish(app, "later", 5)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finish(app, "after", 6)
    assert app.AsyncResult("after").get(timeout=5) == 6


def test_waiting_twice_for_the_same_task_in_threads(app: pyworker.Celery) -> None:
    result = app.AsyncResult("shared")
    values: list[Any] = []
    threads = [threading.Thread(target=lambda: values.append(result.get(timeout=20))) for _ in range(8)]
    for thread in threads:
        thread.start()
    finish(app, "shared", 9)
    for thread in threads:
        thread.join()
    assert values == [9] * 8


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("builtins", "eval"), ("builtins", "int"), ("subprocess", "Popen"), ("os", "path.join")],
)
def test_only_exceptions_are_rebuilt(module: str, name: str) -> None:
    """GHSA-q4xr-rc97-m4xx: what is stored could name any callable."""
    stored = {"exc_type": name, "exc_module": module, "exc_message": ["echo"]}
    with pytest.raises(exceptions.SecurityError):
        exception_from_stored(stored)


def test_unknown_exceptions_keep_their_name() -> None:
    made = exception_from_stored({"exc_type": "Outer.Inner", "exc_module": "json", "exc_message": ["x"]})
    assert type(made).__name__ == "Outer.Inner"
    assert isinstance(exception_from_stored({"exc_type": "KeyError", "exc_message": ["x"]}), Exception)
