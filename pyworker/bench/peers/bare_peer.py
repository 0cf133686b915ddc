"""A bare consumer on RabbitMQ: takes a stock client's messages and acknowledges them, nothing else.

Its drain rate is what the broker itself can do; its CPU time is what reading frames costs at least.
"""

from __future__ import annotations

import re
import signal
import struct
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import celery
import celery.signals
from kombu import Connection

from pyworker.bench.errors import BenchError
from pyworker.bench.peers.celery_protocol import CeleryClient, make_app
from pyworker.bench.settings import AppSettings
from pyworker.bench.tally import Tally
from pyworker.transport.amqp_url import is_amqp

if TYPE_CHECKING:
    import socket

    from pyworker.bench.peers.base import Client

_PREFETCH = 2000
_READ_BYTES = 1 << 18
_METHOD, _BODY, _END = 1, 3, 0xCE
_DELIVER = struct.pack(">HH", 60, 60)
_INDEX = re.compile(rb"\[\[(\d+)")


class BarePeer:
    """Stock Celery's client against the consumer below."""

    name = "bare"

    def __init__(self, payload: str) -> None:
        self._payload = payload

    def version(self) -> str:
        """It has none of its own."""
        return "-"

    def worker_command(self, settings: AppSettings, concurrency: int, pool: str, loglevel: str) -> list[str]:
        """Run this module."""
        return [sys.executable, "-m", "pyworker.bench.peers.bare_peer"]

    def connect(self, settings: AppSettings) -> Client:
        """Return stock Celery's client; nobody stores results.

        Raises:
            BenchError: the broker is none that it speaks to.
        """
        if not is_amqp(settings.broker_url):
            raise BenchError("a bare consumer is there for RabbitMQ alone")
        settings = replace(settings, ignore_result=True)
        return CeleryClient(make_app(celery.Celery, celery.signals, settings), celery.group, settings, self._payload)


def _method(class_id: int, method_id: int, arguments: bytes) -> bytes:
    payload = struct.pack(">HH", class_id, method_id) + arguments
    return struct.pack(">BHI", _METHOD, 1, len(payload)) + payload + bytes([_END])


def _consume(queue: str) -> bytes:
    """Begin to consume without an answer, so that the first bytes that come are messages."""
    name = queue.encode()
    no_wait = 0x08
    return _method(60, 20, b"\0\0" + bytes([len(name)]) + name + b"\0" + bytes([no_wait]) + b"\0\0\0\0")


def _acknowledge(delivery: int) -> bytes:
    """Everything up to this delivery."""
    return _method(60, 80, struct.pack(">QB", delivery, 1))


def consume(connection: socket.socket, queue: str, tally: Tally) -> None:
    """Acknowledge each batch of messages that the socket brings; ends with its process or the connection."""
    connection.sendall(_consume(queue))
    pending = b""
    header = struct.Struct(">BHI")
    delivery = complete = 0
    while piece := connection.recv(_READ_BYTES):
        pending += piece
        position = acknowledged = 0
        while len(pending) - position >= header.size:
            kind, _channel, size = header.unpack_from(pending, position)
            end = position + header.size + size
            if end >= len(pending):
                break
            start = position + header.size
            if kind == _METHOD and pending[start : start + 4] == _DELIVER:
                after_tag = start + 5 + pending[start + 4]
                (delivery,) = struct.unpack_from(">Q", pending, after_tag)
            elif kind == _BODY:
                found = _INDEX.match(pending, start)
                if found is not None:
                    tally.record(int(found[1]))
                complete = acknowledged = delivery
            position = end + 1
        pending = pending[position:]
        if acknowledged:
            connection.sendall(_acknowledge(complete))


def main() -> None:
    """Consume what the bench's settings name."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    settings = AppSettings.from_environment()
    tally = Tally(settings.tally_path, settings.tally_capacity)
    with Connection(settings.broker_url) as connection:
        connection.default_channel.basic_qos(0, _PREFETCH, False)
        raw = connection.connection.sock
        raw.settimeout(None)
        consume(raw, settings.queue, tally)


if __name__ == "__main__":
    main()
