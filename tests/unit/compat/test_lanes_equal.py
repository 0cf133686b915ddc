"""Every lane does what Celery's own tracer does: the same signals, log records, writes and context, in its order."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from celery import Celery, Task
from celery.exceptions import Ignore, Reject

from pyworker.worker.protocol import Outcome
from support.lane_stage import MODES, TASK_ID, Stage, compared, plain


class Expected(Exception):
    """An error that its task declares."""


class Hooked(Task):
    """All the hooks of a task."""

    seen: list[Any]
    fails_in = ""

    def _note(self, hook: str, *values: Any) -> None:
        self.seen.append(("hook", hook, plain(values)))
        if self.fails_in == hook:
            raise RuntimeError(f"{hook} failed")

    def before_start(self, *values: Any) -> None:
        self._note("before_start", *values)

    def on_success(self, *values: Any) -> None:
        self._note("on_success", *values)

    def after_return(self, *values: Any) -> None:
        self._note("after_return", *values)

    def on_failure(self, *values: Any) -> None:
        self._note("on_failure", *values)

    def on_retry(self, *values: Any) -> None:
        self._note("on_retry", *values)


def _nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def define(app: Celery, seen: list[Any]) -> None:
    """The tasks of every scenario."""

    class Base(Hooked):
        pass

    Base.seen = seen

    def note(task: Any, *values: Any) -> None:
        seen.append(("body", [(key, plain(each)) for key, each in vars(task.request).items()], plain(values)))

    @app.task(shared=False, bind=True, name="add")
    def add(self: Any, x: Any = 1, y: Any = 2) -> Any:
        note(self, x, y)
        assert app.current_task is self
        return x + y

    @app.task(shared=False, bind=True, name="echo")
    def echo(self: Any, value: Any, **more: Any) -> Any:
        note(self, value, more)
        seen.append(("types", type(value).__name__))
        return value

    @app.task(shared=False, bind=True, name="fail", throws=(Expected,))
    def fail(self: Any, expected: bool = False) -> None:
        note(self)
        raise Expected("declared") if expected else ValueError("text é")

    @app.task(shared=False, bind=True, name="retry", max_retries=2, default_retry_delay=0)
    def retry(self: Any) -> None:
        note(self)
        raise self.retry(exc=KeyError("again"))

    @app.task(
        shared=False, name="autoretry", autoretry_for=(KeyError,), retry_backoff=1, retry_jitter=False, max_retries=1
    )
    def autoretry() -> None:
        raise KeyError("auto")

    @app.task(shared=False, bind=True, name="predicate")
    def predicate(self: Any, kind: str) -> None:
        note(self)
        raise {"ignore": Ignore("why"), "reject": Reject("no"), "requeue": Reject("later", requeue=True)}[kind]

    @app.task(shared=False, bind=True, name="progress")
    def progress(self: Any) -> str:
        self.update_state(state="PROGRESS", meta={"done": 50})
        self.update_state(task_id="other", state="PROGRESS", meta={})
        return "done"

    @app.task(shared=False, name="tracked", track_started=True)
    def tracked() -> int:
        return 1

    @app.task(shared=False, name="ignored", ignore_result=True)
    def ignored(fails: bool = False) -> int:
        return 1 // (not fails)

    @app.task(shared=False, name="ignored_errors", ignore_result=True, store_errors_even_if_ignored=True)
    def ignored_errors() -> None:
        raise ValueError

    @app.task(shared=False, bind=True, name="hooked", base=Base)
    def hooked(self: Any, how: str = "") -> str:
        if how == "fail":
            raise ValueError(how)
        if how == "retry":
            raise self.retry(countdown=0)
        if how == "ignore":
            raise Ignore
        self.fails_in = how
        return how

    @app.task(shared=False, bind=True, name="spawn")
    def spawn(self: Any) -> int:
        add.delay(1, 1)
        return len(self.request.children)

    @app.task(shared=False, bind=True, name="own_request")
    def own_request(self: Any, how: str) -> int:
        if how == "callbacks":
            self.request.callbacks = [add.s(1), echo.s()]
        elif how == "chain":
            self.request.chain = [echo.s(), add.s(3)]
        elif how == "ignore":
            self.request.ignore_result = True
        else:
            self.request.update(extra=1)
        note(self)
        return 4

    @app.task(shared=False, name="unencodable")
    def unencodable(kind: str) -> Any:
        circle: list[Any] = []
        circle.append(circle)
        return {"object": [object], "circle": circle, "digits": 10**5000, "deep": _nested(100_000)}[kind]

    @app.task(shared=False, bind=True, name="calls_itself")
    def calls_itself(self: Any, depth: int = 2) -> int:
        note(self)
        return depth and self(depth - 1)


def run_in(mode: str, body: Callable[[Stage], Any], **settings: Any) -> tuple[Any, list[Any]]:
    stage = Stage(mode, define, **settings)
    with stage.open():
        outcome = body(stage)
    return outcome, compared(stage.timeline)


def assert_equal(body: Callable[[Stage], Any], **settings: Any) -> tuple[Any, list[Any]]:
    """Run in every mode and compare; returns what Celery did."""
    expected = run_in("celery", body, **settings)
    for mode in MODES[1:]:
        outcome, timeline = run_in(mode, body, **settings)
        assert timeline == expected[1], mode
        # Celery's parent does not tell the two failures apart.
        ended = Outcome.FAILURE if outcome[0] == Outcome.INTERNAL_ERROR else outcome[0]
        assert ended == expected[0][0], mode
        if expected[0][1]:
            # The link's texts are UTF-8.
            assert outcome[1] == expected[0][1].encode("utf-8", "replace").decode(), mode
    return expected


@pytest.mark.parametrize(
    ("task", "args", "kwargs", "outcome"),
    [
        ("add", (2, 3), {}, Outcome.SUCCESS),
        ("add", (), {"x": "a", "y": "b"}, Outcome.SUCCESS),
        ("add", (1, "x"), {}, Outcome.FAILURE),
        ("add", (1, 2, 3), {}, Outcome.FAILURE),
        ("add", (), {"z": 1}, Outcome.FAILURE),
        ("fail", (), {}, Outcome.FAILURE),
        ("fail", (True,), {}, Outcome.FAILURE),
        ("retry", (), {}, Outcome.RETRY),
        ("autoretry", (), {}, Outcome.RETRY),
        ("predicate", ("ignore",), {}, Outcome.IGNORED),
        ("predicate", ("reject",), {}, Outcome.REJECTED),
        ("predicate", ("requeue",), {}, Outcome.REJECTED_REQUEUE),
        ("progress", (), {}, Outcome.SUCCESS),
        ("tracked", (), {}, Outcome.SUCCESS),
        ("ignored", (), {}, Outcome.SUCCESS),
        ("ignored", (True,), {}, Outcome.FAILURE),
        ("ignored_errors", (), {}, Outcome.FAILURE),
        ("hooked", (), {}, Outcome.SUCCESS),
        ("hooked", ("fail",), {}, Outcome.FAILURE),
        ("hooked", ("retry",), {}, Outcome.RETRY),
        ("hooked", ("ignore",), {}, Outcome.IGNORED),
        ("spawn", (), {}, Outcome.SUCCESS),
        ("own_request", ("callbacks",), {}, Outcome.SUCCESS),
        ("own_request", ("chain",), {}, Outcome.SUCCESS),
        ("own_request", ("ignore",), {}, Outcome.SUCCESS),
        ("own_request", ("other",), {}, Outcome.SUCCESS),
        ("calls_itself", (), {}, Outcome.SUCCESS),
    ],
)
def test_tasks_run_the_same(task: str, args: Any, kwargs: Any, outcome: Outcome) -> None:
    expected, timeline = assert_equal(lambda stage: stage.run(task, args, kwargs))
    assert expected[0] == outcome
    assert timeline


@pytest.mark.filterwarnings("ignore:Exception raised outside body")
@pytest.mark.parametrize("hook", ["on_success", "after_return", "before_start"])
def test_failing_hooks_are_treated_the_same(hook: str) -> None:
    def body(stage: Stage) -> Any:
        task = stage.app.tasks["hooked"]
        task.fails_in = hook
        return stage.run("hooked", (hook,))

    assert_equal(body)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -(2**63),
        2**64 - 1,
        2**64,
        10**30,
        1.5,
        1e300,
        1e16,
        -0.0,
        float("nan"),
        float("inf"),
        "",
        "text",
        "it's",
        'é\n"\\',
        "\ud800",
        "\U0001f600",
        "1234567890123456789012",
        "__type__",
        [],
        {},
        [1, [2.5, {"a": None, "b": "é"}], "c"],
        {"1": {"2": [3]}, "": ""},
        {"n": 2**70},
        datetime(2026, 1, 2, 3, 4, 5, 6, timezone.utc),
        Decimal("1.10"),
        uuid.UUID(TASK_ID),
        b"bytes",
        b"\xff\x00",
        {"deep": [{"d": Decimal("2"), "u": uuid.UUID(TASK_ID)}]},
        "x" * 3000,
        list(range(2000)),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_values_travel_the_same(value: Any) -> None:
    expected, _ = assert_equal(lambda stage: stage.run("echo", (value,), {"k": value}))
    assert expected[0] == Outcome.SUCCESS


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml", "msgpack"])
def test_serializers_are_decoded_the_same(serializer: str) -> None:
    expected, _ = assert_equal(
        lambda stage: stage.run("add", (2, 3), serializer=serializer),
        accept_content=["json", "pickle", "yaml", "msgpack"],
    )
    assert expected == (Outcome.SUCCESS, "5")


@pytest.mark.parametrize("serializer", ["pickle", "yaml", "msgpack"])
def test_results_are_encoded_the_same(serializer: str) -> None:
    assert_equal(lambda stage: stage.run("echo", ([1, "é"],)), result_serializer=serializer)


@pytest.mark.parametrize("method", ["gzip", "bzip2", "lzma"])
def test_compressed_bodies_are_decoded_the_same(method: str) -> None:
    expected, _ = assert_equal(lambda stage: stage.run("add", (2, 3), compress=method))
    assert expected == (Outcome.SUCCESS, "5")


@pytest.mark.parametrize(
    "settings",
    [
        {"task_ignore_result": True},
        {"task_track_started": True},
        {"task_store_errors_even_if_ignored": True, "task_ignore_result": True},
        {"result_extended": True},
        {"result_compression": "gzip"},
        {"timezone": "Europe/Oslo"},
        {"timezone": "Europe/Oslo", "enable_utc": False},
        {"task_inherit_parent_priority": True},
        {"task_acks_late": True, "worker_deduplicate_successful_tasks": True},
        {"result_expires": None},
    ],
    ids=lambda settings: ",".join(settings),
)
@pytest.mark.parametrize("task", ["add", "fail", "spawn"])
def test_settings_mean_the_same(task: str, settings: dict[str, Any]) -> None:
    assert_equal(lambda stage: stage.run(task), **settings)


@pytest.mark.parametrize("of_message", [True, False, None])
@pytest.mark.parametrize("task", ["add", "ignored", "fail", "ignored_errors", "tracked"])
def test_ignore_result_counts_the_same(task: str, of_message: bool | None) -> None:
    assert_equal(lambda stage: stage.run(task, headers={"ignore_result": of_message}))


@pytest.mark.parametrize(
    "headers",
    [
        {"x-custom": {"a": [1]}, "sentry-trace": "abc"},
        {"headers": {"own": 1}, "x-custom": 2},
        {"stamped_headers": ["s"], "stamps": {"s": "v"}, "s": "v"},
        {"group": "g1", "parent_id": "p1", "group_index": 3},
        {"shadow": "other name"},
        {"timelimit": [10, 5]},
        {"timelimit": None},
        {"retries": 2},
        {"redelivered": True},
        {"big": 2**65, "long": "1234567890123456789012"},
    ],
    ids=lambda headers: ",".join(headers),
)
@pytest.mark.parametrize("task", ["add", "retry"])
def test_headers_reach_the_task_the_same(task: str, headers: dict[str, Any]) -> None:
    assert_equal(lambda stage: stage.run(task, headers=headers))


@pytest.mark.parametrize(
    "properties",
    [
        {"delivery_info": {"exchange": "e", "routing_key": "r", "redelivered": True}, "priority": 5},
        {"reply_to": None, "correlation_id": None},
        {"delivery_info": {}, "x": 1},
    ],
)
def test_properties_reach_the_task_the_same(properties: dict[str, Any]) -> None:
    assert_equal(lambda stage: stage.run("add", properties=properties))


def test_what_follows_is_published_the_same() -> None:
    def signature(task: str, *args: Any, **options: Any) -> dict[str, Any]:
        return {
            "task": task,
            "args": list(args),
            "kwargs": {},
            "options": options,
            "subtask_type": None,
            "immutable": False,
        }

    def callbacks(*names: str) -> Callable[[Stage], Any]:
        return lambda stage: stage.run("add", embed={"callbacks": [signature(name, 1) for name in names]})

    assert_equal(callbacks("add"))
    assert_equal(callbacks("add", "add"))
    assert_equal(lambda stage: stage.run("add", embed={"chain": [signature("echo"), signature("add", 1)]}))
    assert_equal(lambda stage: stage.run("fail", embed={"errbacks": [signature("echo")]}))
    assert_equal(lambda stage: stage.run("fail", embed={"chain": [signature("echo", task_id="next")]}))


@pytest.mark.parametrize("kwargs", [[], [1], "text", 5])
def test_keyword_arguments_that_are_no_mapping_are_an_internal_error(kwargs: Any) -> None:
    with pytest.warns(RuntimeWarning, match="outside body"):
        assert_equal(lambda stage: stage.run("add", (1, 2), kwargs))


@pytest.mark.parametrize("damage", ["object", "circle", "digits", "deep"])
def test_result_that_cannot_be_encoded_fails_the_task(damage: str) -> None:
    expected, _ = assert_equal(lambda stage: (stage.run("unencodable", (damage,)), stage.run("add"))[0])
    assert expected[0] == Outcome.FAILURE


class StoreDown(Exception):
    """The first write of a result fails."""


def test_store_failure_is_an_internal_error() -> None:
    def body(stage: Stage) -> Any:
        place: Any = stage.app.backend.client if stage.mode == "celery" else stage.link
        name = "setex" if stage.mode == "celery" else "store"
        write = getattr(place, name)

        def refuse_once(*_: Any) -> None:
            setattr(place, name, write)
            raise StoreDown("store is down")

        setattr(place, name, refuse_once)
        return stage.run("add")

    with pytest.warns(RuntimeWarning, match="outside body"):
        expected, timeline = run_in("celery", body)
    for mode in MODES[1:]:
        with pytest.warns(RuntimeWarning, match="outside body"):
            outcome, own_timeline = run_in(mode, body)
        assert expected[0] == Outcome.FAILURE
        assert outcome[0] == Outcome.INTERNAL_ERROR
        assert own_timeline == timeline
