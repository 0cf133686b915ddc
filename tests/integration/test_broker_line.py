"""The connection that remote control, events and gossip share, when its server is gone without a word."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection, Exchange, Producer

from pyworker.worker.broker_line import BrokerLine, LinePart
from support.redis_server import RedisServer
from support.tcp_gate import TcpGate
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator


class Teller(LinePart):
    """Publishes at each turn, as events do."""

    name = "teller"

    def __init__(self) -> None:
        self.opened = 0
        self.told = 0
        self.is_lost = threading.Event()

    def open(self, connection: Any) -> None:
        self.opened += 1

    def turn(self, connection: Any) -> bool:
        Producer(connection.default_channel, Exchange("tell", type="fanout"), auto_declare=False).publish({"told": 1})
        self.told += 1
        return False

    def lost(self) -> None:
        self.is_lost.set()


@pytest.fixture
def gate() -> Iterator[TcpGate]:
    with RedisServer() as server, TcpGate(server.port) as opened:
        yield opened


def test_the_line_comes_back_from_a_connection_that_carries_nothing(gate: TcpGate) -> None:
    teller = Teller()
    line = BrokerLine(lambda: Connection(f"redis://127.0.0.1:{gate.port}/0"))
    line.add(teller)
    try:
        eventually(lambda: teller.told > 0, deadline_s=60)
        gate.freeze()
        line.ring()
        assert teller.is_lost.wait(120)
        before = teller.told
        eventually(lambda: teller.opened == 2 and teller.told > before, deadline_s=60)
    finally:
        line.remove(teller)
