"""An ideal responder: answers a stock client's messages with no worker at all, as fast as Python and Redis can.

Its round trip is what the client itself costs; a worker is judged by what it adds to that.
"""

from __future__ import annotations

import base64
import json
import signal
import socket
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import celery
import celery.signals

from pyworker.bench.peers.celery_protocol import CeleryClient, make_app
from pyworker.bench.settings import AppSettings
from pyworker.bench.tally import Tally

if TYPE_CHECKING:
    from pyworker.bench.peers.base import Client

_RESULT_EXPIRES_S = 86400


class IdealPeer:
    """Stock Celery's client against the responder below."""

    name = "ideal"

    def __init__(self, payload: str) -> None:
        self._payload = payload

    def version(self) -> str:
        """It has none of its own."""
        return "-"

    def worker_command(self, settings: AppSettings, concurrency: int, pool: str, loglevel: str) -> list[str]:
        """Run this module."""
        return [sys.executable, "-m", "pyworker.bench.peers.ideal_peer"]

    def connect(self, settings: AppSettings) -> Client:
        """Return stock Celery's client."""
        return CeleryClient(make_app(celery.Celery, celery.signals, settings), celery.group, settings, self._payload)


def _connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 6379))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(_command(b"SELECT", parts.path.lstrip("/").encode() or b"0"))
    connection.recv(64)
    return connection


def _command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def respond(settings: AppSettings) -> None:
    """Answer each message by storing and publishing its result; ends with its process."""
    tally = Tally(settings.tally_path, settings.tally_capacity)
    broker, backend = _connect(settings.broker_url), _connect(settings.backend_url)
    request = _command(b"BRPOP", settings.queue.encode(), b"0")
    expires = str(_RESULT_EXPIRES_S).encode()
    while True:
        broker.sendall(request)
        reply = broker.recv(1 << 20)
        while not reply.endswith(b"}\r\n"):
            more = broker.recv(1 << 20)
            if not more:
                return
            reply += more
        message = json.loads(reply[reply.index(b"{") :])
        index = json.loads(base64.b64decode(message["body"]))[0][0]
        tally.record(index)
        identifier = message["headers"]["id"]
        key = f"celery-task-meta-{identifier}".encode()
        meta = json.dumps(
            {"status": "SUCCESS", "result": index, "traceback": None, "children": [], "task_id": identifier}
        ).encode()
        backend.sendall(_command(b"SETEX", key, expires, meta) + _command(b"PUBLISH", key, meta))
        answer = backend.recv(256)
        while answer.count(b"\r\n") < 2:
            answer += backend.recv(256)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    respond(AppSettings.from_environment())
