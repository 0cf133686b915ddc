"""Messages published by our API equal Celery's, header by header: ids, times and addresses aside."""

from __future__ import annotations

import datetime
import decimal
import re
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pyworker
from support.comparing import MOMENT, normal

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Side

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::PendingDeprecationWarning",
    # Sockets of the stock application.
    "ignore::pytest.PytestUnraisableExceptionWarning",
)

UTC = datetime.timezone.utc


CALLS: dict[str, Callable[[Side], Any]] = {
    "delay": lambda side: side.add.delay(1, 2),
    "keywords": lambda side: side.add.delay(1, y="é'\"\\\n\x07\U0001f600"),
    "floats and none": lambda side: side.log.delay(1.5, None, True, float("nan"), -0.0, 1e300, 2**70),
    "containers": lambda side: side.log.delay([1, [2, (3, {"a": {"b": {"c": 1}}})]], {"k": []}, key={"x": [None]}),
    "typed values": lambda side: side.log.delay(
        MOMENT, MOMENT.date(), MOMENT.time(), decimal.Decimal("1.10"), uuid.UUID(int=7), b"bytes", b"\xff\x00"
    ),
    "lone surrogate": lambda side: side.log.delay("\ud800 x"),
    "integer keys": lambda side: side.log.delay({1: 2, None: 3}),
    "long text": lambda side: side.log.delay("x y " * 600, "z"),
    "many arguments": lambda side: side.log.delay(*range(400)),
    "just below the limit": lambda side: side.log.delay("a" * 1018),
    "at the limit": lambda side: side.log.delay("a" * 1019),
    "above the limit": lambda side: side.log.delay("a" * 1023),
    "countdown": lambda side: side.add.apply_async((1,), countdown=10),
    "eta": lambda side: side.add.apply_async((1,), eta=MOMENT),
    "naive eta": lambda side: side.add.apply_async((1,), eta=MOMENT.replace(tzinfo=None)),
    "expires seconds": lambda side: side.add.apply_async((1,), expires=30),
    "expires moment": lambda side: side.add.apply_async((1,), expires=MOMENT),
    "queue": lambda side: side.add.apply_async((1,), queue="other"),
    "priority": lambda side: side.add.apply_async((1,), priority=9),
    "headers": lambda side: side.add.apply_async((1,), headers={"x-trace": "1", "nested": {"a": [1]}}),
    "task id": lambda side: side.add.apply_async((1,), task_id='my id "1"'),
    "shadow": lambda side: side.add.apply_async((1,), shadow="other.name"),
    "limits": lambda side: side.add.apply_async((1,), time_limit=5, soft_time_limit=2.5),
    "ignore_result": lambda side: side.add.apply_async((1,), ignore_result=True),
    "argsrepr": lambda side: side.add.apply_async((1,), argsrepr="(<secret>)", kwargsrepr="{...}"),
    "reply_to": lambda side: side.add.apply_async((1,), reply_to="somewhere", correlation_id="c"),
    "properties": lambda side: side.add.apply_async((1,), MessageGroupId="g"),
    "delivery mode": lambda side: side.add.apply_async((1,), delivery_mode=1),
    "retries": lambda side: side.add.apply_async((1,), retries=2),
    "link": lambda side: side.add.apply_async((1,), link=side.mul.s(3), link_error=[side.log.s(), side.log.si(1)]),
    "stamps": lambda side: side.add.apply_async((1,), stamped_headers=["who"], who="me"),
    "pickle": lambda side: side.add.apply_async((1, {2}), serializer="pickle"),
    "yaml": lambda side: side.add.apply_async((1, 2), serializer="yaml"),
    "zlib": lambda side: side.add.apply_async((1, 2), compression="zlib"),
    "attributes": lambda side: side.mul.delay(1, 2),
    "task attributes over": lambda side: side.mul.apply_async((1, 2), priority=6, time_limit=99),
    "ignored by task": lambda side: side.log.delay(),
    "expiring task": lambda side: side.late.delay(),
    "send_task": lambda side: side.app.send_task("proj.unknown", (1,), {"a": 2}),
    "send_task known": lambda side: side.app.send_task("proj.mul", [1, 2], queue="q"),
    "signature": lambda side: side.add.s(1).delay(5),
    "immutable": lambda side: side.add.si(1).delay(5),
    "signature options": lambda side: side.add.s(1).set(queue="sig", priority=3).apply_async(countdown=1),
    "chain": lambda side: side.library.chain(side.add.s(1, 2), side.mul.s(3), side.add.si(4))(),
    "chain of two": lambda side: (side.add.s(1, 2) | side.mul.s(3)).delay(),
    "chain with args": lambda side: (side.add.s(1) | side.mul.s(3))(7),
    "chain in chain": lambda side: (side.add.s(1, 1) | (side.mul.s(2) | side.add.s(3)) | side.add.s(4))(),
    "chain error": lambda side: (side.add.s(1, 1) | side.mul.s(2)).on_error(side.log.s())(),
    "chain link": lambda side: (side.add.s(1, 1) | side.mul.s(2)).apply_async(link=side.log.s()),
    "group": lambda side: side.library.group(side.add.s(i, i) for i in range(3))(),
    "group with args": lambda side: side.library.group(side.add.s(1), side.mul.s(2))(10),
    "group options": lambda side: side.library.group(side.add.s(1), side.mul.si(2, 3)).apply_async(queue="g"),
    "map": lambda side: side.add.map([1, 2]).delay(),
    "starmap": lambda side: side.add.starmap([(1, 2), (3, 4)]).apply_async(queue="m"),
    "chunks": lambda side: side.add.chunks(zip(range(5), range(5), strict=True), 2)(),
    "empty group": lambda side: side.library.group()(),
    "chain then group": lambda side: (side.add.s(1, 1) | side.library.group(side.add.s(1), side.mul.s(2)))(),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_publishes_what_celery_publishes(name: str, ours: Side, stock: Side) -> None:
    for side in (stock, ours):
        side.app.finalize()
        CALLS[name](side)
    theirs, mine = stock.published(), ours.published()
    if name == "expires moment":
        # The time that is left, in milliseconds, differs by the time between the calls.
        for message in (*theirs, *mine):
            message["properties"]["expiration"] = len(message["properties"]["expiration"])
    if name == "zlib":
        for message in (*theirs, *mine):
            message["body"] = len(message["body"]) > 0
    if name == "lone surrogate":
        assert mine[0]["headers"].pop("argsrepr") == theirs[0]["headers"].pop("argsrepr")
    assert repr(normal(mine)) == repr(normal(theirs))


#: Calls whose messages are compared in protocol 1 too.
OLD_CALLS = (
    "delay", "keywords", "countdown", "naive eta", "expires seconds", "priority", "headers", "shadow", "limits",
    "argsrepr", "retries", "link", "stamps", "properties", "attributes", "signature", "chain", "chain of two",
    "chain with args", "chain in chain", "chain error", "chain link", "group", "chain then group", "starmap",
)  # fmt: skip


@pytest.mark.parametrize("name", OLD_CALLS)
def test_protocol_1_is_celerys(name: str, ours: Side, stock: Side) -> None:
    for side in (stock, ours):
        side.app.conf.task_protocol = 1
        side.app.finalize()
        CALLS[name](side)
    assert repr(normal(ours.published())) == repr(normal(stock.published()))


SETTINGS: dict[str, dict[str, Any]] = {
    "default queue": {"task_default_queue": "main"},
    "routes by name": {"task_routes": {"proj.add": {"queue": "adds", "priority": 4}}},
    "routes to a name": {"task_routes": {"proj.add": "adds"}},
    "routes by pattern": {"task_routes": {"proj.*": {"queue": "all", "routing_key": "all"}}},
    "routes by expression": {"task_routes": ([(re.compile(r"proj\.(add|mul)"), {"queue": "some"})],)},
    "routes by function": {"task_routes": (lambda name, args, kwargs, options, task=None, **kw: {"queue": name},)},
    "time zone": {"timezone": "Asia/Kolkata"},
    "local time": {"enable_utc": False, "timezone": "Europe/Oslo"},
    "limits": {"task_time_limit": 50, "task_soft_time_limit": 40},
    "ignored": {"task_ignore_result": True},
    "serializer": {"task_serializer": "pickle"},
    "priority": {"task_default_priority": 6},
    "levels": {"task_repr_maxlevels": 1},
    "prefix": {"broker_transport_options": {"global_keyprefix": "pre:"}},
    "steps": {"broker_transport_options": {"priority_steps": list(range(10)), "sep": ":"}},
    "delivery mode": {"task_default_delivery_mode": "transient"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_change_messages_as_in_celery(name: str, ours: Side, stock: Side) -> None:
    for side in (stock, ours):
        side.app.conf.update(SETTINGS[name])
        side.add.delay(1, [[2]])
        side.add.apply_async((1,), countdown=5, priority=7)
        side.log.delay()
    assert repr(normal(ours.published())) == repr(normal(stock.published()))


_LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.binary(max_size=9))
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(args=st.lists(_VALUES, max_size=4), kwargs=st.dictionaries(st.text(max_size=4), _VALUES, max_size=2))
def test_any_arguments_are_published_as_celery_does(ours: Side, stock: Side, args: Any, kwargs: Any) -> None:
    for side in (stock, ours):
        side.log.apply_async(args, kwargs)
    assert repr(normal(ours.published())) == repr(normal(stock.published()))


def test_a_batch_publishes_what_single_calls_do(ours: Side) -> None:
    calls = [ours.add.s(1, 2), ours.mul.s(3, 4), ours.log.s(a=1), ours.add.s(5).set(queue="q", countdown=9)]
    results = ours.app.send_many(calls)
    batch = ours.published()
    for call in calls:
        call.delay()
    assert normal(batch) == normal(ours.published())
    assert len({result.id for result in results}) == len(calls)


#: Arguments that a batch writes by itself, and such that it leaves to others.
_MIXED = [
    (1, 2), (-(2**62), 2**70), (0.1, 1e300), (float("inf"), -0.0), (True, None),
    ("it's", 'a "quote"\\'), ("ä\n😀", "\x7f\0"), ("x" * 1100, 1), ([1], {"a": (2,)}),
    (b"bytes", 1), ("\ud800", 1), (1,), (3, 4),
]  # fmt: skip


class Number(int):
    """Shows itself in another way than its value."""

    def __str__(self) -> str:
        return "a number"

    __repr__ = __str__


def test_a_group_of_any_arguments_is_celerys(ours: Side, stock: Side) -> None:
    """However its parts are written: together, by a template, or by themselves."""
    for side in (stock, ours):
        side.library.group(
            *(side.add.s(*args) for args in _MIXED),
            side.add.s(1, y=2), side.mul.s(3, 4), side.log.s(*range(12)), side.add.s(Number(3), 1),
            side.add.s(5, 6).set(task_id='an "id"'), side.add.s(5, 6).set(task_id="plain"),
            side.add.s(7, 8).set(countdown=60), side.add.s(9, 10),
        ).apply_async()  # fmt: skip
    mine, theirs = ours.published(), stock.published()
    assert {message["headers"]["id"] for message in mine} > {'an "id"', "plain"}
    assert len(mine) == len(_MIXED) + 8
    for message in (*mine, *theirs):
        message["headers"]["argsrepr"] = message["headers"]["argsrepr"].encode(errors="surrogatepass")
    assert repr(normal(mine)) == repr(normal(theirs))


def test_every_message_of_a_group_has_its_own_tag_and_id(ours: Side) -> None:
    for _ in range(2):
        pyworker.group(ours.add.s(number, number) for number in range(300))()
    messages = ours.published()
    assert len({message["properties"]["delivery_tag"] for message in messages}) == 600
    assert len({message["headers"]["id"] for message in messages}) == 600
    assert [message["headers"]["group_index"] for message in messages] == [*range(300), *range(300)]


def test_a_chords_header_is_celerys(ours: Side, stock: Side) -> None:
    for side in (stock, ours):
        header = [side.add.s(number, number) for number in range(3)] + [side.mul.s(1, 2), side.add.s([1], [2])]
        side.library.chord(header)(side.log.s(later=True).on_error(side.log.si("failed")))
    assert repr(normal(ours.published())) == repr(normal(stock.published()))


def test_templates_and_built_messages_are_the_same(ours: Side) -> None:
    ours.add.delay(1, y=[2, {"a": None}])
    plain = normal(ours.published())

    def watch(**_named: Any) -> None: ...

    pyworker.signals.before_task_publish.connect(watch, weak=False)
    try:
        ours.add.delay(1, y=[2, {"a": None}])
    finally:
        pyworker.signals.before_task_publish.disconnect(watch)
    assert normal(ours.published()) == plain
