"""Messages that go through exchanges, and through producers of the caller's own: Celery's, list by list."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import kombu.pools
import pytest
from kombu import Exchange, Queue, binding
from kombu.common import Broadcast

from pyworker import Celery
from pyworker.exceptions import ImproperlyConfigured, OperationalError, QueueNotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Side
    from support.redis_server import RedisServer

pytestmark = pytest.mark.filterwarnings(
    # Celery's own complaint about task attributes.
    "ignore::celery.exceptions.CDeprecationWarning",
    "ignore::celery.exceptions.CPendingDeprecationWarning",
)


@pytest.fixture(autouse=True)
def new_pools() -> None:
    """Celery's connections are kombu's, kept for the whole process: they remember bindings that were flushed."""
    kombu.pools.reset()


_TOPIC = Exchange("media", type="topic")


def route_by_function(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **_: Any) -> Any:
    """A router as a function."""
    return {"queue": "video", "routing_key": "video.compress"} if name == "proj.mul" else None


class RouterClass:
    """A router as a class."""

    def route_for_task(self, task: str, args: Any = None, kwargs: Any = None) -> Any:
        return {"queue": "by_class", "priority": 6} if task == "proj.log" else None


def queues() -> list[Queue]:
    """The same queues for both sides."""
    return [
        Queue("celery", Exchange("celery"), routing_key="celery"),
        Queue("video", _TOPIC, routing_key="video.#"),
        Queue("all_media", _TOPIC, routing_key="#"),
        Queue("twice_a", Exchange("twice"), routing_key="same"),
        Queue("twice_b", Exchange("twice"), routing_key="same"),
        Queue("many", bindings=[binding(_TOPIC, routing_key="image.#"), binding(Exchange("x"), routing_key="y")]),
        Queue("alone", Exchange("lonely"), routing_key="key"),
    ]


def declare(side: Side) -> None:
    """Bind every queue, as a worker does when it starts."""
    side.app.conf.task_queues = queues()
    # By the connection that publishes: kombu remembers an exchange's type per connection.
    with side.app.producer_or_acquire() as producer:
        for queue in queues():
            queue(producer.channel).declare()


def by_list(side: Side) -> list[Any]:
    """What lies in which list, with what a worker would see of the way it came."""
    found = []
    for message in side.published():
        info, headers = message["properties"]["delivery_info"], message["headers"]
        found.append((message["key"], headers["task"], message["body"][:2], info["exchange"], info["routing_key"]))
    return sorted(found, key=str)


CALLS: dict[str, Callable[[Side], Any]] = {
    "a queue's own exchange": lambda side: side.add.apply_async((1, 2), queue="alone"),
    "a topic": lambda side: side.add.apply_async((1, 2), queue="video", routing_key="video.cut"),
    "a topic that several match": lambda side: side.add.apply_async((1, 2), exchange="media", routing_key="video.cut"),
    "a topic that one matches": lambda side: side.add.apply_async((1, 2), exchange="media", routing_key="sound"),
    "an exchange object": lambda side: side.add.apply_async((1, 2), exchange=_TOPIC, routing_key="sound"),
    "several bindings": lambda side: side.add.apply_async((1, 2), exchange="media", routing_key="image.x"),
    "one key for two queues": lambda side: side.add.apply_async((1, 2), exchange="twice", routing_key="same"),
    "the queue of such a key": lambda side: side.add.apply_async((1, 2), queue="twice_a"),
    "a queue object": lambda side: side.add.apply_async((1, 2), queue=queues()[1], routing_key="video.a"),
    "an unbound queue": lambda side: side.add.apply_async((1, 2), queue="made_up"),
    "options as well": lambda side: side.mul.apply_async((1, 2), queue="video", countdown=60, priority=9),
}


@pytest.mark.parametrize("name", CALLS)
def test_messages_lie_where_celerys_do(ours: Side, stock: Side, name: str) -> None:
    found = []
    for side in (ours, stock):
        declare(side)
        CALLS[name](side)
        found.append(by_list(side))
    assert found[0] == found[1]
    assert found[0]


ROUTES: dict[str, Any] = {
    "a mapping": {"proj.add": {"queue": "video", "routing_key": "video.x"}},
    "a queue's name": {"proj.add": "alone"},
    "a pattern": {"proj.*": {"queue": "alone"}},
    "an expression": ([(re.compile(r"proj\.(add|log)"), {"queue": "video", "routing_key": "video.z"})],),
    "a function": route_by_function,
    "several": (route_by_function, {"proj.add": "alone"}),
    "a class": RouterClass(),
    "an exchange": {"proj.add": {"exchange": "media", "exchange_type": "topic", "routing_key": "video.q"}},
    "a priority": {"proj.add": {"queue": "alone", "priority": 3}},
}


@pytest.mark.parametrize("name", ROUTES)
def test_routes_lead_where_celerys_do(ours: Side, stock: Side, name: str) -> None:
    found = []
    for side in (ours, stock):
        declare(side)
        side.app.conf.task_routes = ROUTES[name]
        for task in (side.add, side.mul, side.log):
            task.delay(1, 2)
        side.add.apply_async((3, 4), priority=0)
        side.add.apply_async((5, 6), queue="all_media")
        side.app.send_task("proj.add", (7, 8))
        side.late.delay()
        found.append(by_list(side))
    assert found[0] == found[1]


def test_a_router_may_be_named(ours: Side) -> None:
    ours.app.conf.task_routes = f"{__name__}.no_such_router"
    with pytest.raises(ImproperlyConfigured, match="task_routes: cannot load the router"):
        ours.add.delay(1)


def test_pairs_need_no_tuple_around_them(ours: Side) -> None:
    ours.app.conf.task_routes = [("proj.a*", {"queue": "alone"}), (re.compile("proj.l"), "other")]
    ours.add.delay(1)
    ours.log.delay(1)
    ours.mul.delay(1, 2)
    assert sorted(message["key"].partition("\x06")[0] for message in ours.published()) == ["alone", "celery", "other"]


def test_a_broadcast_reaches_every_subscriber(ours: Side, shared_server: RedisServer) -> None:
    ours.app.conf.task_queues = [Broadcast("everybody", queue="everybody.here")]
    ours.app.conf.task_routes = {"proj.add": {"queue": "everybody.here", "exchange": "everybody"}}
    subscriber = shared_server.client.pubsub(ignore_subscribe_messages=True)
    subscriber.psubscribe("*everybody*")
    subscriber.get_message(timeout=10)
    ours.add.delay(1, 2)
    message = next(found for found in iter(lambda: subscriber.get_message(timeout=10), None) if found)
    assert "proj.add" in str(message["data"])
    subscriber.close()


def test_producers_and_connections_of_the_callers_own_are_used(ours: Side, stock: Side) -> None:
    for side in (ours, stock):
        other = side.app.connection_for_write().as_uri(include_password=True).rpartition("/")[0] + "/7"
        with side.app.connection_for_write(other) as connection:
            side.add.apply_async((1, 2), connection=connection)
            with connection.Producer() as producer:
                side.add.apply_async((3, 4), producer=producer)
                side.app.send_task("proj.mul", (5, 6), producer=producer)
            channel = connection.default_channel
            assert sum(channel.client.llen(key) for key in channel.client.keys("celery*")) == 3
            channel.client.flushdb()
        assert side.published() == []


def test_pools_give_and_take_back(ours: Side) -> None:
    app = ours.app
    app.conf.update(broker_pool_limit=1, broker_pool_acquire_timeout=0.1)
    with app.producer_or_acquire() as producer:
        assert app.pool.limit == 1
        with app.producer_or_acquire(producer) as same:
            assert same is producer
        with (
            pytest.raises(OperationalError, match=r"broker_pool_limit, broker_pool_acquire_timeout"),
            app.connection_or_acquire(),
        ):
            pass
    with app.connection_or_acquire() as connection, app.connection_or_acquire(connection) as same:
        assert same is connection
        connection.ensure_connection(max_retries=1)
    with app.connection_or_acquire(pool=False) as connection:
        assert connection.transport.driver_type == "redis"


def test_an_exchange_that_cannot_be_reached_is_an_operational_error() -> None:
    app = Celery("nowhere", broker="redis://127.0.0.1:1/0", set_as_current=False)
    app.conf.broker_transport_options = {"max_retries": 0}
    task = app.task(name="nowhere.task", shared=False)(lambda: None)
    for options in ({"exchange": "media", "routing_key": "a"}, {}):
        with pytest.raises(task.OperationalError):
            task.apply_async(**options, retry=False)
        with pytest.raises(OperationalError):
            task.apply_async(**options, retry_policy={"max_retries": 1, "interval_start": 0, "interval_step": 0})


def test_a_queue_that_must_exist_and_does_not_is_named(ours: Side) -> None:
    ours.app.conf.update(task_create_missing_queues=False)
    with pytest.raises(QueueNotFound, match="missing"):
        ours.add.apply_async((1,), queue="missing")
