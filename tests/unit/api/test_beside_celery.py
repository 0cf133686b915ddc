"""The same use, right and wrong, of our API and of Celery's: what comes back, and what is raised."""

from __future__ import annotations

import importlib
import logging
import pickle
from functools import partial
from typing import TYPE_CHECKING, Any

import celery
import kombu.exceptions
import pytest

import pyworker
from pyworker.worker.native import NativeWorkerApp

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Side


pytestmark = pytest.mark.filterwarnings(
    # Celery's own complaint about task attributes.
    "ignore::celery.exceptions.CDeprecationWarning",
    "ignore::celery.exceptions.CPendingDeprecationWarning",
)


def outcome(use: Callable[[], Any]) -> tuple[str, str]:
    """Return what using something gives: the exception's name and text, or the value's."""
    try:
        return "", repr(use())
    except Exception as error:
        return type(error).__name__, str(error).replace("__main__.", "")


WRONG: dict[str, Callable[[Side], Any]] = {
    "an argument is missing": lambda side: side.late.delay(1),
    "an argument too many": lambda side: side.mul.delay(1, 2, 3),
    "an unknown keyword": lambda side: side.mul.delay(1, 2, z=1),
    "an argument twice": lambda side: side.mul.delay(1, x=2),
    "arguments that are a text": lambda side: side.mul.apply_async("ab"),
    "a countdown out of range": lambda side: side.add.apply_async((1, 2), countdown=-(2**40)),
    "a countdown that is no number": lambda side: side.add.apply_async((1, 2), countdown="x"),
    "an eta that is no moment": lambda side: side.add.apply_async((1, 2), eta=5),
    "an unknown serializer": lambda side: side.add.apply_async((1, 2), serializer="nope"),
    "what has no JSON": lambda side: side.add.apply_async((object, 2)),
    "an unknown task": lambda side: side.app.tasks["nope"],
    "a signature of an unknown task": lambda side: side.library.signature("nope", app=side.app).type,
    "calling such a signature": lambda side: side.library.signature("nope", app=side.app)(1),
    "arguments by name that are no list": lambda side: side.app.send_task("x", 5),
    "keywords by name that are no mapping": lambda side: side.app.send_task("x", (1,), kwargs=[1]),
    "a result without id": lambda side: side.app.AsyncResult(None),
    "a base class that runs": lambda side: side.library.Task().run(),
    "a retry outside of a run": lambda side: side.add.retry(exc=KeyError("x")),
    "a state outside of a run": lambda side: side.add.update_state(state="X"),
    "a chord's part outside of one": lambda side: side.add.add_to_chord(side.add.s(1)),
    "a decorator of no function": lambda side: side.app.task(1),
    "a decorator of two": lambda side: side.app.task(min, max),
    "an unknown transport": lambda side: side.library.Celery("x", set_as_current=False).conf["nope"],
    "a member that is none": lambda side: side.app.ResultSet([side.app.AsyncResult("a")]).remove("z"),
    "a signature or something else": lambda side: side.add.s(1) | 3,
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_use_raises_what_celery_raises(name: str, ours: Side, stock: Side) -> None:
    mine, theirs = (outcome(partial(WRONG[name], side)) for side in (ours, stock))
    assert mine[0]
    assert mine == theirs


def test_a_broker_that_is_gone_is_kombus_error_too() -> None:
    """Who comes from Celery may catch either."""
    app = pyworker.Celery("gone", broker="redis://127.0.0.1:1/0", set_as_current=False)
    app.conf.task_publish_retry = False
    task = app.task(name="gone.nothing", shared=False)(lambda: None)
    with pytest.raises(kombu.exceptions.OperationalError) as caught:
        task.delay()
    assert isinstance(caught.value, task.OperationalError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(again, pyworker.exceptions.OperationalError)
    assert str(again) == str(caught.value)


def test_changes_of_settings_can_be_taken_back() -> None:
    found = []
    for library in (pyworker, celery):
        conf = library.Celery("conf", set_as_current=False).conf
        conf.update(task_serializer="yaml", timezone="Europe/Oslo", result_extended=True)
        del conf["task_serializer"]
        popped = conf.pop("timezone")
        still = dict(conf.items())["result_extended"], True in list(conf.values()), len(conf) > 100
        missing = [outcome(partial(conf.pop, "task_compression", *default)) for default in ((), (5,))]
        conf.clear()
        found.append(
            [conf.task_serializer, popped, conf.timezone, still, conf.result_extended, [kind for kind, _ in missing]]
        )
    assert found[0] == found[1]


def test_a_variable_that_is_not_set_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_CONFIGURATION", raising=False)
    for library in (pyworker, celery):
        app = library.Celery("envvar", set_as_current=False)
        assert app.config_from_envvar("NO_SUCH_CONFIGURATION", silent=True) is False
        with pytest.raises(library.exceptions.ImproperlyConfigured, match="NO_SUCH_CONFIGURATION"):
            app.config_from_envvar("NO_SUCH_CONFIGURATION")


def test_signatures_know_where_they_belong(ours: Side, stock: Side) -> None:
    found = []
    for side in (ours, stock):
        sig = side.add.s(1)
        before = sig.root_id, sig.parent_id
        sig.freeze("tid", root_id="root", parent_id="parent")
        unknown = side.library.signature("unknown", app=side.app)
        found.append([before, sig.root_id, sig.parent_id, repr(sig.AsyncResult("x")), repr(unknown.AsyncResult("y"))])
    assert found[0] == found[1]


def test_ranks_of_states_are_celerys() -> None:
    ours, theirs = (importlib.import_module(f"{library}.states") for library in ("pyworker", "celery"))
    assert ours.PRECEDENCE_LOOKUP == theirs.PRECEDENCE_LOOKUP
    assert ours.NONE_PRECEDENCE == theirs.NONE_PRECEDENCE


def test_signals_provide_what_celerys_do() -> None:
    ours, theirs = (importlib.import_module(f"{library}.signals") for library in ("pyworker", "celery"))
    names = [name for name in ours.__all__ if hasattr(getattr(ours, name), "providing_args")]
    assert len(names) > 20
    lacking = {
        name: set(getattr(theirs, name).providing_args) - set(getattr(ours, name).providing_args) for name in names
    }
    assert {name: args for name, args in lacking.items() if args} == {}


@pytest.mark.parametrize("name", ["lonely", "some_package.module"])
def test_loggers_are_below_the_same(name: str) -> None:
    logging.getLogger("some_package")
    parents = []
    for library in ("pyworker", "celery"):
        logger = importlib.import_module(f"{library}.utils.log").get_logger(f"{name}_{library}")
        parents.append(logger.parent.name)
    assert parents[0] == parents[1]


def test_the_daily_clean_up_is_a_task(ours: Side) -> None:
    assert ours.app.tasks["celery.backend_cleanup"]() is None
    assert ours.app.tasks.periodic() == {}


def test_a_workers_mailbox_follows_the_settings() -> None:
    app = pyworker.Celery("mailbox", broker="memory://", set_as_current=False)
    app.conf.update(
        control_queue_durable=True, control_queue_exclusive=False, control_queue_ttl=7, control_exchange="c"
    )
    mailbox = NativeWorkerApp(app).control_mailbox()
    assert mailbox is not None
    assert (mailbox.namespace, mailbox.queue_durable, mailbox.queue_exclusive, mailbox.queue_ttl) == (
        "c",
        True,
        False,
        7,
    )
    app.close()
