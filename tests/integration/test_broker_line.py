"""The connection that remote control, events and gossip share: when its server is gone, and what is written on it."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import redis
from kombu import Connection, Exchange, Producer

from pyworker.events.event import get_exchange
from pyworker.worker.broker_line import BrokerLine, LinePart
from pyworker.worker.event_publisher import publish_json
from pyworker.worker.redis_line import keep_to_one_connection
from support.rabbitmq_server import RabbitmqHost
from support.redis_server import RedisServer
from support.tcp_gate import TcpGate
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator


class Asker(LinePart):
    """Waits for an answer of the server's at each turn, as who declares or publishes does."""

    name = "asker"

    def __init__(self) -> None:
        self.opened = 0
        self.answered = 0
        self.is_lost = threading.Event()

    def open(self, connection: Any) -> None:
        self.opened += 1

    def turn(self, connection: Any) -> bool:
        exchange = Exchange("told", type="fanout")
        exchange(connection.default_channel).declare()
        Producer(connection.default_channel, exchange, auto_declare=False).publish({})
        self.answered += 1
        return False

    def lost(self) -> None:
        self.is_lost.set()


@pytest.fixture
def redis_url() -> Iterator[str]:
    with RedisServer() as server:
        yield server.url


@pytest.fixture
def rabbitmq_url() -> Iterator[str]:
    with RabbitmqHost() as host:
        yield host.url


@pytest.mark.parametrize(
    "server", ["redis_url", pytest.param("rabbitmq_url", marks=pytest.mark.xdist_group("rabbitmq"))]
)
def test_the_line_comes_back_from_a_connection_that_carries_nothing(
    server: str, request: pytest.FixtureRequest
) -> None:
    url: str = request.getfixturevalue(server)
    port = urlsplit(url).port
    assert port
    asker = Asker()
    with TcpGate(port) as gate:
        line = BrokerLine(lambda: Connection(url.replace(f":{port}/", f":{gate.port}/")))
        line.add(asker)
        try:
            eventually(lambda: asker.answered > 0, deadline_s=60)
            gate.freeze()
            line.ring()
            assert asker.is_lost.wait(120)
            before = asker.answered
            eventually(lambda: asker.opened == 2 and asker.answered > before, deadline_s=60)
        finally:
            line.remove(asker)


@pytest.mark.parametrize("prefix", ["", "team-"])
def test_events_are_written_natively_as_kombu_writes_them(redis_url: str, prefix: str) -> None:
    body = json.dumps([{"type": "task-received", "uuid": "é"}], ensure_ascii=False).encode()
    options = {"global_keyprefix": prefix} if prefix else {}
    with redis.Redis.from_url(redis_url).pubsub() as listener:
        listener.psubscribe("*")
        messages = listener.listen()
        next(messages)
        for prepare in (keep_to_one_connection, lambda connection: connection):
            with prepare(Connection(redis_url, transport_options=options)) as connection:
                exchange = get_exchange(connection, "celeryev")
                publish_json(
                    connection, exchange, body, routing_key="task.multi", serializer="json", headers={"hostname": "ü"}
                )
        natively, by_kombu = next(messages), next(messages)
    assert natively["channel"] == by_kombu["channel"]
    ours, theirs = json.loads(natively["data"]), json.loads(by_kombu["data"])
    assert ours["properties"].pop("delivery_tag") != theirs["properties"].pop("delivery_tag")
    assert ours == theirs
    # The order of the members too.
    assert list(ours) == list(theirs)
