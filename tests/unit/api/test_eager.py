"""``apply`` and ``task_always_eager``: the same as Celery does with the same tasks, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import celery
import celery.exceptions
import celery.signals
import pytest
from kombu.exceptions import EncodeError

import pyworker
import pyworker.exceptions
from pyworker import signals

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIGNALS = ("task_prerun", "task_postrun", "task_success", "task_failure", "task_retry")


class Recorded:
    """One library with an app whose tasks write down what happens to them."""

    def __init__(self, library: Any, library_signals: Any) -> None:
        self.library = library
        self.steps: list[Any] = []
        self.app = library.Celery("eager", set_as_current=False, broker="memory://", backend=None)
        steps = self.steps

        class Base(library.Task):  # type: ignore[misc]
            abstract = True

            def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
                steps.append(("before_start", list(args), kwargs))

            def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
                steps.append(("on_success", retval))

            def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
                steps.append(("on_failure", repr(exc), "Traceback" in einfo.traceback))

            def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
                steps.append(("on_retry", repr(exc)))

            def after_return(self, status: str, retval: Any, *_rest: Any) -> None:
                steps.append(("after_return", status, repr(retval)))

        @self.app.task(name="eager.add", base=Base, shared=False)
        def add(x: int, y: int) -> int:
            return x + y

        @self.app.task(name="eager.fail", base=Base, shared=False)
        def fail() -> None:
            raise ValueError("no")

        @self.app.task(name="eager.flaky", base=Base, bind=True, max_retries=3, shared=False)
        def flaky(task: Any, succeeds_at: int) -> int:
            if task.request.retries < succeeds_at:
                raise task.retry(exc=KeyError("not yet"), countdown=0)
            return int(task.request.retries)

        @self.app.task(name="eager.auto", base=Base, autoretry_for=(OSError,), max_retries=1, shared=False)
        def auto() -> None:
            raise OSError("never")

        @self.app.task(name="eager.request", bind=True, shared=False)
        def request(task: Any) -> Any:
            found = task.request
            return [
                found.is_eager,
                found.called_directly,
                found.retries,
                found.delivery_info["is_eager"],
                found.headers,
            ]

        @self.app.task(name="eager.ignore", base=Base, shared=False)
        def ignore() -> None:
            raise library.exceptions.Ignore

        @self.app.task(name="eager.reject", base=Base, shared=False)
        def reject() -> None:
            raise library.exceptions.Reject("not mine")

        self.add, self.fail, self.flaky, self.auto = add, fail, flaky, auto
        self.request, self.ignore, self.reject = request, ignore, reject
        for name in _SIGNALS:

            def receive(name: str = name, **named: Any) -> None:
                # Celery's Retry has itself for a message.
                shown = {
                    key: repr(named[key]).replace("Retry(Retry(...)", "Retry(None")
                    for key in ("retval", "state", "result")
                    if key in named
                }
                shown["reason"] = str(named.get("reason"))
                steps.append((name, shown))

            self._receivers = [*getattr(self, "_receivers", []), (getattr(library_signals, name), receive)]
            getattr(library_signals, name).connect(receive, weak=False)

    def close(self) -> None:
        for signal, receiver in self._receivers:
            signal.disconnect(receiver)
        self.app.close()

    def seen(self, run: Any) -> Any:
        """What happens and comes of it, in words that are the same for both libraries."""
        self.steps.clear()
        try:
            result = run(self)
        except BaseException as error:
            return [*self.steps, ("raised", type(error).__name__, str(error))]
        if hasattr(result, "state"):
            # Compared without the task's id and the file names of tracebacks.
            outcome: Any = (result.state, repr(result.result), bool(result.traceback), result.ready(), result.failed())
        else:
            outcome = result
        return [*self.steps, outcome]


@pytest.fixture
def both() -> Iterator[tuple[Recorded, Recorded]]:
    """Our side and Celery's."""
    ours, stock = Recorded(pyworker, signals), Recorded(celery, celery.signals)
    yield ours, stock
    ours.close()
    stock.close()


def always_eager(side: Recorded, **settings: Any) -> Any:
    """Turn the mode on."""
    side.app.conf.update(task_always_eager=True, **settings)
    return side


RUNS = {
    "a success": lambda side: side.add.apply((2, 3)),
    "keywords": lambda side: side.add.apply(kwargs={"x": 2, "y": 3}),
    "a failure": lambda side: side.fail.apply(),
    "a failure that is thrown": lambda side: side.fail.apply(throw=True),
    "a failure that is thrown by setting": lambda side: always_eager(side, task_eager_propagates=True).fail.delay(),
    "a failure that is kept": lambda side: always_eager(side).fail.delay(),
    "its value": lambda side: always_eager(side).add.delay(1, 2).get(),
    "its error": lambda side: always_eager(side).fail.delay().get(),
    "its error as a value": lambda side: repr(always_eager(side).fail.delay().get(propagate=False)),
    "retries": lambda side: side.flaky.apply((2,)),
    "too many retries": lambda side: side.flaky.apply((9,)),
    "automatic retries": lambda side: side.auto.apply(),
    "the request": lambda side: side.request.apply(headers={"a": 1}).get(),
    "ignored": lambda side: side.ignore.apply(),
    "rejected": lambda side: side.reject.apply(),
    "a link": lambda side: always_eager(side).add.apply_async((1, 2), link=side.add.s(10)),
    "an errback": lambda side: always_eager(side).fail.apply_async(link_error=side.add.si(1, 1)),
    "wrong arguments": lambda side: always_eager(side).add.delay(1),
    "a direct call": lambda side: side.add(2, 3),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_celerys_step_by_step(both: tuple[Recorded, Recorded], name: str) -> None:
    ours, stock = (side.seen(RUNS[name]) for side in both)
    assert ours == stock


def test_arguments_travel_through_the_serializer(both: tuple[Recorded, Recorded]) -> None:
    for side in both:
        always_eager(side)
        seen: list[Any] = []

        @side.app.task(name="eager.keep", shared=False)
        def task(value: Any, seen: Any = seen) -> None:
            seen.append(value)

        task.delay({1: (2, 3)})
        assert seen == [{"1": [2, 3]}]
        with pytest.raises(EncodeError):
            task.delay(object())


def test_waiting_inside_is_refused() -> None:
    app = pyworker.Celery("inside", set_as_current=False, task_always_eager=True, task_eager_propagates=True)
    inner = app.task(name="inside.inner", shared=False)(lambda: 1)
    outer = app.task(name="inside.outer", shared=False)(lambda: inner.delay().get())
    with pytest.raises(RuntimeError, match="Never call result.get"):
        outer.delay()
    assert inner.delay().get() == 1


def test_send_task_is_never_eager() -> None:
    app = pyworker.Celery("sender", set_as_current=False, task_always_eager=True)
    with (
        pytest.warns(pyworker.exceptions.AlwaysEagerIgnored, match="task_always_eager"),
        pytest.raises(pyworker.exceptions.ImproperlyConfigured, match="broker_url"),
    ):
        app.send_task("anything")


def test_an_eager_result_is_a_result() -> None:
    app = pyworker.Celery("results", set_as_current=False)
    task = app.task(name="results.one", shared=False)(lambda: 1)
    result = task.apply()
    assert isinstance(result, pyworker.AsyncResult)
    assert (result.get(timeout=0), result.id, result.children) == (1, result.task_id, [])
    assert result.__copy__().get() == 1
    result.forget()
    result.revoke()
    assert result.state == "REVOKED"
    with pytest.raises(pyworker.exceptions.TaskRevokedError):
        result.get()
