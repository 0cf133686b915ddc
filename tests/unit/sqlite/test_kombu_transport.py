"""kombu on the file: routing, broadcasts, acknowledgements, and how kombu comes to know of it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection, Consumer, Exchange, Producer, Queue

import pyworker
from pyworker.transport.sqlite_file import open_file
from pyworker.transport.sqlite_url import parse_sqlite_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

assert pyworker.__version__


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/queue.db"


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    with Connection(url) as opened:
        yield opened


def drained(connection: Connection, consumers: list[Consumer], count: int) -> None:
    for consumer in consumers:
        consumer.consume()
    for _ in range(count):
        connection.drain_events(timeout=20)
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.01)


def test_direct_and_topic_exchanges_route_as_kombu_says(connection: Connection, url: str) -> None:
    got: list[tuple[str, Any]] = []
    topic, direct = Exchange("t", type="topic"), Exchange("d", type="direct")
    queues = [
        Queue("errors", topic, routing_key="*.error"),
        Queue("all", topic, routing_key="#"),
        Queue("one", direct, routing_key="one"),
    ]
    consumers = []
    for queue in queues:

        def take(body: Any, message: Any, name: str = queue.name) -> None:
            got.append((name, body))
            message.ack()

        consumers.append(Consumer(connection, [queue], callbacks=[take]))
    # Another process's producer sees the bindings in the file.
    with Connection(url) as other:
        producer = Producer(other)
        topic.maybe_bind(other.default_channel).declare()
        for key in ("web.error", "web.info"):
            producer.publish(key, exchange=topic, routing_key=key)
        producer.publish("direct", exchange=direct, routing_key="one", declare=[direct])
    drained(connection, consumers, 4)
    assert sorted(got) == [("all", "web.error"), ("all", "web.info"), ("errors", "web.error"), ("one", "direct")]


def test_broadcasts_reach_every_listener_from_when_it_listens(connection: Connection, url: str) -> None:
    exchange = Exchange("news", type="fanout")
    with Connection(url) as other:
        Producer(other).publish("too early", exchange=exchange, declare=[exchange])
        got: dict[str, list[Any]] = {"a": [], "b": []}
        consumers = [
            Consumer(connection, [Queue(name, exchange)], callbacks=[lambda body, _, name=name: got[name].append(body)],
                     no_ack=True)
            for name in got
        ]  # fmt: skip
        for number in range(3):
            Producer(other).publish(number, exchange=exchange)
        drained(connection, consumers, 6)
    assert got == {"a": [0, 1, 2], "b": [0, 1, 2]}


def test_unacknowledged_messages_keep_their_place(url: str) -> None:
    with Connection(url) as first:
        simple = first.SimpleQueue("q")
        for number in range(3):
            simple.put(number)
        held = [simple.get(timeout=20), simple.get(timeout=20)]
        assert [message.payload for message in held] == [0, 1]
        held[1].ack()
        simple.close()
    with Connection(url) as second:
        simple = second.SimpleQueue("q")
        again = [simple.get(timeout=20) for _ in range(2)]
        assert [message.payload for message in again] == [0, 2]
        again[0].reject(requeue=True)
        returned = simple.get(timeout=20)
        assert returned.payload == 0
        for message in (again[1], returned):
            message.ack()
        assert simple.qsize() == 0
        simple.close()


def test_the_address_is_shown(connection: Connection, url: str) -> None:
    assert connection.as_uri() == url


@pytest.mark.parametrize(
    "order", ["import pyworker, kombu", "import kombu.transport, pyworker", "import kombu, pyworker"]
)
def test_kombu_knows_the_name_whichever_is_imported_first(order: str, tmp_path: Path) -> None:
    code = f"{order}\nfrom kombu import Connection\nprint(Connection('sqlite:///q.db').transport.driver_type)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == ["sqlite"]


def test_our_own_client_publishes_through_exchanges_that_others_have_bound(url: str) -> None:
    topic = Exchange("media", type="topic")
    with Connection(url) as worker:
        for queue in (Queue("video", topic, routing_key="video.#"), Queue("all", topic, routing_key="#")):
            queue(worker.default_channel).declare()
        app = pyworker.Celery("client", broker=url, set_as_current=False)
        for key in ("video.cut", "image.cut"):
            app.send_task("proj.work", (key,), exchange=topic, routing_key=key)
        app.send_task("proj.work", ("straight",), queue="all")
        file = open_file(parse_sqlite_url(url, setting="test"), setting="test")
        assert {name: ready for name, ready, *_ in file.queues() if ready} == {"video": 1, "all": 3}
        app.close()
