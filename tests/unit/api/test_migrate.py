"""``contrib.migrate``, ``app.amqp`` and ``app.loader``: with the messages of both libraries' clients."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import kombu
import pytest
from kombu import Connection, Exchange, Queue

from pyworker import Celery
from pyworker.contrib import migrate
from support.redis_server import RedisServer

if TYPE_CHECKING:
    from conftest import Side

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::PendingDeprecationWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",  # sockets of kombu
)


def kept(message: dict[str, Any]) -> dict[str, Any]:
    """What moving a message must not change."""
    properties = {
        name: value for name, value in message["properties"].items() if name not in ("delivery_tag", "delivery_info")
    }
    return {**message, "properties": properties, "key": None}


def test_tasks_move_to_another_broker_as_they_are(ours: Side) -> None:
    with RedisServer() as elsewhere:
        ours.add.delay(1, 2)
        ours.add.apply_async((5,), queue="other")
        ours.mul.apply_async((3, 4), expires=600, headers={"x": "y"})
        with ours.app.connection_for_read() as source, Connection(elsewhere.url) as destination:
            state = migrate.migrate_tasks(
                source, destination, app=ours.app, queues="celery:new", ack_messages=True, timeout=0.3
            )
        assert (state.count, state.total_apx, repr(state)) == (2, 2, "2/2")
        # A priority has a list of its own.
        assert [elsewhere.client.llen(name) for name in ("new", "new\x06\x163")] == [1, 1]
        assert [message["key"] for message in ours.published()] == ["other"]


def test_tasks_move_to_other_queues_by_id_name_and_choice(ours: Side) -> None:
    first, second = ours.add.delay(1), ours.add.delay(2)
    third, fourth = ours.log.delay(), ours.log.apply_async((), queue="quiet")
    wanted = Queue("wanted", Exchange("wanted"), routing_key="wanted")
    assert migrate.move_task_by_id(first.id, wanted, app=ours.app, timeout=0.3).filtered == 1
    assert migrate.move_by_taskmap({"proj.log": wanted}, app=ours.app, timeout=0.3).filtered == 1
    assert migrate.move_direct_by_id(second.id, "w1@here", app=ours.app, timeout=0.3).filtered == 1
    told = []
    state = migrate.move(
        lambda body, message: migrate.task_id_in({fourth.id}, body, message),
        exchange="", routing_key="loud", source=["quiet"], app=ours.app, limit=1, timeout=0.3,
        callback=lambda state, body, message: told.append((state.filtered, body[0])),
    )  # fmt: skip
    assert (state.filtered, told) == (1, [(1, [])])
    places = {message["headers"]["id"]: message["key"] for message in ours.published()}
    assert places == {first.id: "wanted", third.id: "wanted", second.id: "w1@here.dq2", fourth.id: "loud"}


def test_a_moved_message_is_the_same(ours: Side, stock: Side) -> None:
    calls = [
        lambda side: side.add.delay(1, 2),
        lambda side: side.mul.apply_async((1, 2), headers={"x": 1}, priority=6),
        lambda side: side.add.apply_async((1, 2), compression="zlib"),
    ]
    for side in (ours, stock):
        for call in calls:
            call(side)
            (before,) = side.published()
            call(side)
            app = Celery("mover", broker=side.app.conf.broker_url, set_as_current=False)
            assert migrate.move(
                lambda body, message: True, exchange="", routing_key="there", app=app, timeout=0.3
            ).filtered
            (after,) = side.published()
            app.close()
            for message in (before, after):
                message["headers"].pop("id"), message["headers"].pop("root_id")
                message["properties"].pop("correlation_id")
            assert after["key"].startswith("there")
            assert kept(after) == kept(before)


def test_only_the_tasks_named_are_looked_at(ours: Side) -> None:
    ours.add.delay(1)
    ours.log.delay()
    seen: list[Any] = []
    with ours.app.connection_for_read() as connection:
        migrate.start_filter(
            ours.app, connection, lambda body, message: seen.append(migrate.task_name_of(body, message)),
            tasks="proj.log", timeout=0.3,
        )  # fmt: skip
    assert seen == ["proj.log"]
    assert Counter(message["headers"]["task"] for message in ours.published()) == {"proj.add": 1, "proj.log": 1}


def test_queues_and_routes_are_where_celery_has_them(ours: Side, stock: Side) -> None:
    for side in (ours, stock):
        side.app.conf.task_queues = [
            Queue("main", Exchange("main"), routing_key="main"), Queue("video", Exchange("media", type="topic"), "v.#")
        ]  # fmt: skip
        side.app.conf.task_default_queue = "main"
        side.app.conf.task_routes = {"proj.add": "video"}
    mine, theirs = ours.app.amqp, stock.app.amqp
    for name in ("main", "video"):
        assert mine.queues[name].as_dict(recurse=True) == theirs.queues[name].as_dict(recurse=True)
    assert set(mine.queues) == set(mine.queues.consume_from) == set(theirs.queues)
    assert (mine.default_queue.name, mine.default_exchange.name) == ("main", theirs.default_exchange.name)
    assert [amqp.router.route({}, "proj.add")["queue"].name for amqp in (mine, theirs)] == ["video", "video"]
    assert mine.queues.add("late", routing_key="l").routing_key == "l"
    assert list(mine.queues) == ["main", "video", "late"]
    with ours.app.connection_for_read() as connection:
        consumer = mine.TaskConsumer(connection)
        assert {queue.name for queue in consumer.queues} == {"main", "video", "late"}
        assert isinstance(mine.Producer(connection), kombu.Producer)


def test_the_loader_imports_what_a_worker_imports(ours: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    ours.app.conf.update(imports="json", include=["string"])
    loader = ours.app.loader
    assert loader.default_modules == {"json", "string"}
    assert [module.__name__ for module in loader.import_default_modules(["base64"])] == ["json", "string", "base64"]
    assert loader.import_task_module("json").__name__ == "json"
    assert loader.now(utc=False).tzinfo is not None
