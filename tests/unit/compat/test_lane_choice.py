"""Which lane a task gets, and the reason that ``pyworker check`` prints."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import celery.app.trace
import pytest
from celery import Celery, Task, signals
from celery.backends.redis import RedisBackend
from celery.worker.request import Request
from celery.worker.strategy import default as default_strategy
from kombu.serialization import registry

from pyworker.compat.celery.lanes import lane_of
from pyworker.worker.config import Lane

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def app() -> Celery:
    return Celery("lanes", broker="memory://", backend="redis://127.0.0.1:1/0", set_as_current=False)


def task_of(app: Celery, **options: Any) -> Any:
    @app.task(shared=False, name="t", **options)
    def t() -> None:
        pass

    app.finalize()
    return t


def own(function: Any) -> Any:
    """A wrapper that looks like what it wraps."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def only_reason(app: Celery, task: Any, lane: Lane) -> str:
    found, reasons = lane_of(app, task)
    assert found == lane
    assert len(reasons) == 1, reasons
    return reasons[0]


def test_plain_task_is_fast(app: Celery) -> None:
    assert lane_of(app, task_of(app)) == (Lane.FAST, ())


def test_receivers_and_hooks_and_autoretry_stay_fast(app: Celery) -> None:
    class Hooked(Task):
        def on_success(self, *_: Any) -> None: ...

        def after_return(self, *_: Any) -> None: ...

    def receive(**_: Any) -> None: ...

    signals.task_prerun.connect(receive)
    try:
        task = task_of(app, base=Hooked, autoretry_for=(KeyError,), bind=True, ignore_result=True)
        assert lane_of(app, task)[0] == Lane.FAST
    finally:
        signals.task_prerun.disconnect(receive)


def test_stack_protection_of_the_worker_is_no_own_call(app: Celery) -> None:
    task = task_of(app)
    celery.app.trace._install_stack_protection()
    try:
        assert lane_of(app, task)[0] == Lane.FAST
    finally:
        celery.app.trace.reset_worker_optimizations(app)


def test_replaced_build_tracer_is_named(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(celery.app.trace, "build_tracer", own(celery.app.trace.build_tracer))
    assert "build_tracer was replaced" in only_reason(app, task_of(app), Lane.LIBRARY)


def test_own_call_is_named(app: Celery) -> None:
    class WithCall(Task):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return self.run(*args, **kwargs)

    assert "WithCall defines __call__" in only_reason(app, task_of(app, base=WithCall), Lane.LIBRARY)


def test_patched_call_of_the_base_class_is_seen(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(app)
    monkeypatch.setattr(Task, "__call__", own(Task.__call__))
    assert "defines __call__" in only_reason(app, task, Lane.LIBRARY)


@pytest.mark.parametrize("url", ["cache+memory://", "sentinel://127.0.0.1:1"], ids=lambda url: url[:5])
def test_other_backends_are_named(url: str) -> None:
    app = Celery("lanes", broker="memory://", backend=url, set_as_current=False)
    assert "the result backend is" in only_reason(app, task_of(app), Lane.LIBRARY)


def test_no_backend_is_fast() -> None:
    app = Celery("lanes", broker="memory://", set_as_current=False)
    assert lane_of(app, task_of(app))[0] == Lane.FAST


def test_subclass_of_the_backend_is_another_backend(app: Celery) -> None:
    class Own(RedisBackend):
        pass

    task = task_of(app)
    task.backend = Own(app=app, url="redis://127.0.0.1:1/0")
    assert "Own" in only_reason(app, task, Lane.LIBRARY)


@pytest.mark.parametrize("name", ["set", "store_result", "mark_as_done", "encode"])
def test_patched_backend_methods_are_named(app: Celery, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    task = task_of(app)
    monkeypatch.setattr(app.backend, name, own(getattr(app.backend, name)), raising=False)
    assert only_reason(app, task, Lane.LIBRARY) == f"the result backend's {name} was replaced"
    monkeypatch.undo()
    monkeypatch.setattr(RedisBackend, name, own(getattr(RedisBackend, name)))
    assert only_reason(app, task, Lane.LIBRARY) == f"the result backend's {name} was replaced"


@pytest.fixture
def own_json() -> Iterator[None]:
    before = registry._decoders["application/json"]
    registry._decoders["application/json"] = own(before)
    yield
    registry._decoders["application/json"] = before


@pytest.mark.usefixtures("own_json")
def test_own_json_decoder_is_named(app: Celery) -> None:
    assert "application/json is decoded by" in only_reason(app, task_of(app), Lane.LIBRARY)


def test_kombus_other_serializers_stay_fast(app: Celery) -> None:
    app.conf.accept_content = ["json", "pickle", "yaml", "msgpack"]
    assert lane_of(app, task_of(app))[0] == Lane.FAST


def test_own_serializer_counts_only_if_accepted(app: Celery) -> None:
    registry.register("own-kind", str, lambda data: data, "application/x-own-kind")
    try:
        task = task_of(app)
        assert lane_of(app, task)[0] == Lane.FAST
        app.conf.accept_content = ["json", "own-kind"]
        assert "application/x-own-kind" in only_reason(app, task, Lane.LIBRARY)
    finally:
        registry.unregister("own-kind")


class OwnRequest(Request):
    """A request class as applications write them."""


def own_strategy(*args: Any, **kwargs: Any) -> Any:
    """A strategy as applications write them."""
    return default_strategy(*args, **kwargs)


def test_own_request_and_strategy_need_the_parent(app: Celery) -> None:
    class InParent(Task):
        Request = OwnRequest
        Strategy = own_strategy

    lane, reasons = lane_of(app, task_of(app, base=InParent))
    assert lane == Lane.PARENT
    assert any("OwnRequest" in reason for reason in reasons)
    assert any("own_strategy" in reason for reason in reasons)


def test_receivers_of_task_received_need_the_parent(app: Celery) -> None:
    def receive(**_: Any) -> None: ...

    task = task_of(app)
    signals.task_received.connect(receive)
    try:
        assert only_reason(app, task, Lane.PARENT) == "the signal task_received has receivers"
    finally:
        signals.task_received.disconnect(receive)
    assert lane_of(app, task)[0] == Lane.FAST
