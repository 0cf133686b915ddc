"""Publishing: many threads, forks, broken brokers, wrong use, signals."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

import pyworker
from pyworker import signals
from pyworker.exceptions import ImproperlyConfigured, NotRegistered, OperationalError, QueueNotFound
from support.ports import free_port

if TYPE_CHECKING:
    from conftest import Side


def test_threads_publish_at_the_same_time(ours: Side) -> None:
    ids: list[str] = []

    def publish(first: int) -> None:
        ids.extend(ours.add.delay(number, 0).id for number in range(first, first + 100))

    threads = [threading.Thread(target=publish, args=(first,)) for first in range(0, 800, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    messages = ours.published()
    assert sorted(message["body"][0][0] for message in messages) == list(range(800))
    assert {message["headers"]["id"] for message in messages} == set(ids)
    assert len({message["properties"]["delivery_tag"] for message in messages}) == 800
    assert len({message["properties"]["reply_to"] for message in messages}) == 8


def test_a_forked_child_publishes_for_itself(ours: Side) -> None:
    ours.add.delay(1)
    child = os.fork()
    if child == 0:
        try:
            for _ in range(20):
                ours.add.delay(2)
        finally:
            os._exit(0)
    for _ in range(20):
        ours.add.delay(3)
    assert os.waitpid(child, 0)[1] == 0
    messages = ours.published()
    assert len(messages) == 41
    assert len({message["headers"]["id"] for message in messages}) == 41
    assert len({message["properties"]["delivery_tag"] for message in messages}) == 41
    origins = {message["body"][0][0]: message["headers"]["origin"] for message in messages}
    assert origins[2].startswith(f"gen{child}@")
    assert origins[1] == origins[3] != origins[2]


def test_an_unreachable_broker_is_an_operational_error() -> None:
    app = pyworker.Celery("lost", broker=f"redis://127.0.0.1:{free_port()}/0", set_as_current=False)
    app.conf.task_publish_retry_policy = {"max_retries": 1, "interval_start": 0}

    @app.task
    def nothing() -> None: ...

    with pytest.raises(OperationalError):
        nothing.delay()
    with pytest.raises(nothing.OperationalError):
        nothing.apply_async(retry=False)
    with pytest.raises(OperationalError):
        app.send_many([nothing.s(), nothing.s()])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, "broker_url"),
        ({"broker_url": "nonsense://host"}, "broker_url"),
        ({"broker_url": "rediss://host", "broker_use_ssl": True}, "broker_use_ssl"),
        ({"broker_url": "redis://host/notanumber"}, "broker_url"),
        ({"broker_url": "redis://a;sentinel://b"}, "broker_url"),
        ({"broker_url": "sentinel://a"}, "master_name"),
        ({"broker_url": "redis://localhost", "task_routes": "missing.module.router"}, "task_routes"),
    ],
)
def test_unusable_settings_are_named(settings: dict[str, Any], named: str) -> None:
    app = pyworker.Celery("wrong", set_as_current=False, **settings)

    @app.task
    def nothing() -> None: ...

    with pytest.raises(ImproperlyConfigured, match=named):
        nothing.delay()


def test_arguments_are_checked_at_the_call(ours: Side) -> None:
    with pytest.raises(TypeError, match=r"add\(\) missing 1 required positional argument: 'x'"):
        ours.add.delay()
    with pytest.raises(TypeError, match=r"mul\(\) takes 2 positional arguments but 3 were given"):
        ours.mul.s(1, 2, 3).delay()
    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        pyworker.group(ours.add.s(1), ours.add.s(1, z=1))()
    with pytest.raises(TypeError, match="task args must be a list or tuple"):
        ours.add.apply_async("ab")
    assert ours.published() == []


def test_arguments_are_not_checked_without_typing(ours: Side) -> None:
    @ours.app.task(typing=False, shared=False)
    def free(x: int) -> None: ...

    free.delay()
    assert len(ours.published()) == 1


def test_every_kind_of_parameter_is_checked_as_python_does(ours: Side) -> None:
    @ours.app.task(shared=False, bind=True)
    def taking(self: Any, a: int, /, b: int, c: int = 1, *rest: int, d: int, e: int = 2, **more: int) -> None: ...

    taking.check_arguments((1, 2), {"d": 1})
    taking.check_arguments((1, 2, 3, 4, 5), {"d": 1, "z": 2})
    for args, kwargs in [((), {}), ((1, 2), {}), ((), {"a": 1, "b": 2, "d": 3})]:
        with pytest.raises(TypeError):
            taking.check_arguments(args, kwargs)


def test_unknown_names_are_not_registered(ours: Side) -> None:
    with pytest.raises(NotRegistered):
        ours.app.tasks["missing"]


def test_unknown_queues_are_refused_where_none_may_be_made(ours: Side) -> None:
    ours.app.conf.task_create_missing_queues = False
    with pytest.raises(QueueNotFound):
        ours.add.apply_async((1,), queue="missing")


def test_nothing_of_a_batch_is_sent_if_a_part_cannot_be(ours: Side) -> None:
    with pytest.raises(Exception, match="JSON serializable"):
        ours.app.send_many([ours.add.s(1), ours.add.s(object())])
    assert ours.published() == []


def test_signals_see_and_change_messages(ours: Side) -> None:
    seen: list[Any] = []

    def before(sender: str, headers: dict[str, Any], body: Any, exchange: str, routing_key: str, **named: Any) -> None:
        headers["x-added"] = "by receiver"
        seen.append(("before", sender, body[0], exchange, routing_key))

    def after(sender: str, headers: dict[str, Any], body: Any, exchange: str, routing_key: str, **named: Any) -> None:
        seen.append(("after", sender, headers["id"], exchange, routing_key))

    signals.before_task_publish.connect(before)
    signals.after_task_publish.connect(after, sender="proj.add")
    try:
        single = ours.add.delay(1)
        batch = ours.app.send_many([ours.add.s(2), ours.mul.s(1, 2)])
    finally:
        signals.before_task_publish.disconnect(before)
        signals.after_task_publish.disconnect(after, sender="proj.add")
    messages = ours.published()
    assert [message["headers"]["x-added"] for message in messages] == ["by receiver"] * 3
    assert seen == [
        ("before", "proj.add", (1,), "", "celery"),
        ("after", "proj.add", single.id, "", "celery"),
        ("before", "proj.add", (2,), "", "celery"),
        ("before", "proj.mul", (1, 2), "", "celery"),
        ("after", "proj.add", batch[0].id, "", "celery"),
    ]


def test_changed_settings_and_attributes_count_at_once(ours: Side) -> None:
    ours.add.delay(1)
    ours.app.conf.task_default_queue = "elsewhere"
    ours.add.delay(2)
    ours.add.priority = 6
    ours.add.delay(3)
    assert {message["key"] for message in ours.published()} == {"celery", "elsewhere", "elsewhere\x06\x166"}


def test_calling_a_task_runs_it_here(ours: Side) -> None:
    assert ours.add(2, 2) == 4
    assert ours.published() == []


def test_one_function_is_one_task(ours: Side) -> None:
    def function() -> None: ...

    assert ours.app.task(function) is ours.app.task(function)
    assert ours.app.tasks[function.__module__ + ".function"].name.endswith("test_publishing.function")


def test_shared_tasks_belong_to_every_app(ours: Side) -> None:
    @pyworker.shared_task(name="shared.one")
    def one(x: int) -> int:
        return x

    other = pyworker.Celery("other", set_as_current=False)
    assert ours.app.tasks["shared.one"].app is ours.app
    assert other.tasks["shared.one"].app is other
    ours.app.set_current()
    one.delay(1)
    assert ours.published()[0]["headers"]["task"] == "shared.one"
