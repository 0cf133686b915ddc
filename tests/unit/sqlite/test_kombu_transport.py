"""kombu on the file: routing, broadcasts, acknowledgements, and how kombu comes to know of it."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection, Consumer, Exchange, Producer, Queue

import pyworker
from pyworker.transport.sqlite_file import open_file
from pyworker.transport.sqlite_url import parse_sqlite_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyworker._native import SqliteFile

assert pyworker.__version__


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/queue.db"


def opened(url: str) -> SqliteFile:
    return open_file(parse_sqlite_url(url, setting="test"), setting="test")


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


def test_what_nobody_acknowledges_leaves_the_file_when_it_is_handed_out(connection: Connection, url: str) -> None:
    queue = Queue("replies", Exchange("answers", type="direct"), routing_key="replies")
    got: list[Any] = []
    with Connection(url) as other:
        producer = Producer(other)
        bound = queue(connection.default_channel)
        bound.declare()
        for number in range(3):
            producer.publish(number, exchange=queue.exchange, routing_key="replies", declare=[queue])
    first = bound.get(no_ack=True)
    assert first is not None
    got.append(first.payload)
    consumer = Consumer(connection, [queue], callbacks=[lambda body, _message: got.append(body)], no_ack=True)
    drained(connection, [consumer], 2)
    assert got == [0, 1, 2]
    # While the channel is still open: nothing waits there to be handed out a second time.
    assert opened(url).queues() == [("replies", 0, 0, 0)]


def test_a_queue_that_was_deleted_and_made_anew_is_read_by_the_same_channel(connection: Connection, url: str) -> None:
    """What remote control does when a mailbox gets the name of an earlier one."""
    queue = Queue("replies", Exchange("answers", type="direct"), routing_key="replies")
    got: list[Any] = []
    with Connection(url) as other:
        # The number of the deleted queue would be given to this one.
        for number, further in enumerate(("a", "b")):
            queue(connection.default_channel).declare()
            with Consumer(connection, [queue], callbacks=[lambda body, _: got.append(body)], no_ack=True):
                Producer(other).publish(
                    number, exchange=queue.exchange, routing_key="replies", declare=[queue.exchange]
                )
                connection.drain_events(timeout=20)
            connection.default_channel.after_reply_message_received("replies")
            assert ("replies", 0, 0, 0) not in opened(url).queues()
            other.SimpleQueue(further).put("somebody else's")
    assert got == [0, 1]
    assert opened(url).queues() == [("a", 1, 0, 0), ("b", 1, 0, 0)]


def test_a_queue_that_is_deleted_while_it_is_consumed_is_consumed_when_it_is_back(
    connection: Connection, url: str
) -> None:
    queue = Queue("tasks", Exchange("tasks", type="direct"), routing_key="tasks")
    got: list[Any] = []
    with (
        Consumer(connection, [queue], callbacks=[lambda body, _: got.append(body)], no_ack=True),
        Connection(url) as other,
    ):
        Producer(other).publish("lost", exchange=queue.exchange, routing_key="tasks", declare=[queue])
        queue(other.default_channel).delete()
        queue(other.default_channel).declare()
        Producer(other).publish("back", exchange=queue.exchange, routing_key="tasks")
        connection.drain_events(timeout=20)
    assert got == ["back"]


def test_a_queue_expires_when_nobody_uses_it(tmp_path: Path) -> None:
    # The clock of a file that is not durable can be moved.
    url = f"sqlite:///{tmp_path}/queue.db?durable=0"
    exchange = Exchange("news", type="direct")
    lasting, short = Queue("lasting", exchange, routing_key="x"), Queue("short", exchange, routing_key="x", expires=60)
    file = opened(url)

    def names_after(seconds: float) -> list[str]:
        file.move_clock(seconds)
        file.tidy()
        return [name for name, *_ in file.queues()]

    with Connection(url) as connection, Connection(url) as other:
        got: list[Any] = []
        publish = partial(Producer(other).publish, exchange=exchange, routing_key="x", declare=[exchange])
        for queue in (lasting, short):
            queue(connection.default_channel).declare()
        assert names_after(50) == ["lasting", "short"]
        consumer = Consumer(connection, [short], callbacks=[lambda body, _: got.append(body)], no_ack=True)
        with consumer:
            # Consumed, though nothing is asked for and nothing comes.
            assert names_after(3600) == ["lasting", "short"]
            publish("one")
            connection.drain_events(timeout=20)
        assert names_after(50) == ["lasting", "short"]
        short(connection.default_channel).get(no_ack=True)
        assert names_after(50) == ["lasting", "short"]
        publish("two")
        assert names_after(61) == ["lasting"]
        publish("nobody reads it in a queue that is gone")
        assert [name for name, *_ in file.queues()] == ["lasting"]
        # Declared again on the same connection it is bound as before.
        short(connection.default_channel).declare()
        with consumer:
            publish("three")
            connection.drain_events(timeout=20)
    assert got == ["one", "three"]


def test_who_listens_to_broadcasts_is_known_while_he_lives(connection: Connection, url: str) -> None:
    exchange = Exchange("news", type="fanout")
    channel = connection.default_channel
    assert channel.fanout_listeners("news") == []
    code = (
        "import os, pyworker\nfrom kombu import Connection, Consumer, Exchange, Queue\n"
        f"connection = Connection({url!r})\n"
        "Consumer(connection, [Queue('b', Exchange('news', type='fanout'))], no_ack=True).consume()\n"
        "print('listens', flush=True)\nos.read(0, 1)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"listens\n"
        with Consumer(connection, [Queue("a", exchange)], no_ack=True):
            assert channel.fanout_listeners("news") == ["a", "b"]
            assert channel.fanout_listeners("olds") == []
            other.kill()
            other.wait()
            assert channel.fanout_listeners("news") == ["a"]
        assert channel.fanout_listeners("news") == []


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
        file = opened(url)
        assert {name: ready for name, ready, *_ in file.queues() if ready} == {"video": 1, "all": 3}
        app.close()
