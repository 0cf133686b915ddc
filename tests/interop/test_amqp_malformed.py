"""A peer that speaks AMQP badly: a clear error names what was wrong, and the next connection is a clean one."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING

import pytest

from pyworker import Celery
from pyworker._native import AmqpPublisher, AmqpReplies, NativeError
from pyworker.exceptions import OperationalError
from pyworker.transport.amqp_config import AmqpAddress, DeclareQueue

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

METHOD, HEADER, BODY = 1, 2, 3


def frame(kind: int, channel: int, payload: bytes, *, size: int | None = None, end: int = 0xCE) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload) if size is None else size) + payload + bytes([end])


def method(channel: int, class_id: int, method_id: int, arguments: bytes = b"") -> bytes:
    return frame(METHOD, channel, struct.pack(">HH", class_id, method_id) + arguments)


def long_string(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


START = method(0, 10, 10, b"\x00\x09" + long_string(b"") + long_string(b"PLAIN AMQPLAIN") + long_string(b"en_US"))
TUNE = method(0, 10, 30, struct.pack(">HIH", 2047, 131072, 0))
OPEN_OK, CHANNEL_OK = method(0, 10, 41, b"\0"), method(1, 20, 11, b"\0\0\0\0")
DECLARED = method(1, 50, 11, b"\x01q" + b"\0" * 8)
CONSUMING = method(1, 60, 21, b"\x07replies")
#: What a peer says step by step; each step answers one or more things that the client says.
HANDSHAKE = (START, TUNE, OPEN_OK)
WELL = (*HANDSHAKE, CHANNEL_OK + DECLARED + CONSUMING)


def nested(depth: int) -> bytes:
    """Tables inside tables."""
    table = b""
    for _ in range(depth):
        table = b"\x01kF" + long_string(table)
    return long_string(table)


def delivery(header: bytes) -> bytes:
    announced = method(1, 60, 60, b"\x07replies" + struct.pack(">QB", 1, 0) + b"\x00\x01q")
    return announced + frame(HEADER, 1, header)


HEADERS_FLAG, NO_PROPERTIES = struct.pack(">H", 1 << 13), b"\0\0"


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as listening:
        yield listening


class Peer:
    """Listens, says its steps to each client in turn and hangs up; closes itself at the end of the block."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.scripts: list[Sequence[bytes]] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            for script in self.scripts:
                client, _address = self._listener.accept()
                with client:
                    for step in script:
                        if not client.recv(1 << 16):
                            break
                        client.sendall(step)
                    while client.recv(1 << 16):
                        pass

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_error: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._thread.is_alive():
            self._thread.join()

    def open(self, *scripts: Sequence[bytes]) -> AmqpAddress:
        self.scripts = list(scripts)
        self._thread.start()
        return AmqpAddress(port=self.port, heartbeat_s=0, connect_timeout_s=20.0)


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ((b"AMQP\x00\x01\x00\x00",), "another version of AMQP"),
        ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), "unknown frame type 72"),
        ((frame(METHOD, 0, b"", size=1 << 30),), "a frame of 1073741824 bytes exceeds the negotiated maximum"),
        ((frame(METHOD, 0, b"\x00\x0a\x00\x0a", end=0),), "ends with 0x00 instead of 0xce"),
        ((method(0, 10, 10, b"\x00\x09" + nested(1000) + long_string(b"PLAIN") * 2),), "deep|nested"),
        ((method(0, 10, 10, b"\x00\x09\xff\xff\xff\xff"),), "4294967295 bytes expected"),
        ((method(0, 77, 1),), "unknown method 1 of class 77"),
        ((START, method(0, 10, 99)), "unknown method 99 of class 10"),
        ((START, CHANNEL_OK), "unexpected while connecting"),
        (
            (method(0, 10, 10, b"\x00\x09" + long_string(b"") + long_string(b"GSSAPI") * 2),),
            "does not accept the login",
        ),
        ((START, method(0, 10, 30, struct.pack(">HIH", 0, 100, 0))), "frames of at most 100 bytes"),
    ],
)
def test_a_bad_handshake_is_named_and_the_next_one_works(script: Sequence[bytes], complaint: str, peer: Peer) -> None:
    address = peer.open(script, WELL)
    queue = DeclareQueue(name="q")
    with pytest.raises(NativeError, match=complaint):
        AmqpReplies([address], queue)
    assert AmqpReplies([address], queue).next(0.0) is None


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        (frame(BODY, 1, b"body"), "a body before its header"),
        (frame(METHOD, 1, b"", size=1 << 30), "1073741824 bytes exceeds"),
        (method(1, 60, 999), "unknown method 999 of class 60"),
        (delivery(struct.pack(">HHQ", 60, 0, 1 << 40) + NO_PROPERTIES), "exceeds the bound"),
        (
            delivery(struct.pack(">HHQ", 60, 0, 1) + NO_PROPERTIES) + frame(BODY, 1, b"too long"),
            "longer than its header",
        ),
        (delivery(struct.pack(">HHQ", 60, 0, 1) + HEADERS_FLAG + b"\0\0\xff\xff"), "bytes expected"),
        (method(1, 20, 40, struct.pack(">H", 404) + b"\x09NOT_FOUND\0\0\0\0"), r"\(404\) NOT_FOUND"),
    ],
)
def test_a_bad_message_is_named_and_the_next_connection_works(said: bytes, complaint: str, peer: Peer) -> None:
    address = peer.open((*HANDSHAKE, CHANNEL_OK + DECLARED + CONSUMING + said), WELL)
    queue = DeclareQueue(name="q")
    with pytest.raises(NativeError, match=complaint):
        AmqpReplies([address], queue).next(20.0)
    assert AmqpReplies([address], queue).next(0.0) is None


def test_a_publisher_names_what_was_wrong_and_connects_anew(peer: Peer) -> None:
    address = peer.open((*HANDSHAKE, CHANNEL_OK, method(1, 85, 11), method(1, 70, 1)), (*HANDSHAKE, method(1, 99, 9)))
    publisher = AmqpPublisher([address], timeout_s=20.0)
    with pytest.raises(NativeError, match="unknown method 1 of class 70"):
        publisher.declare([DeclareQueue(name="q")])
    with pytest.raises(NativeError, match="unknown method 9 of class 99"):
        publisher.declare([DeclareQueue(name="q")])


CONFIRM_OK, EXCHANGE_OK, BOUND = method(1, 85, 11), method(1, 40, 11), method(1, 50, 21)


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        pytest.param((), "^timed out$", id="accepts and is silent"),
        pytest.param(HANDSHAKE, "^timed out$", id="silent after the handshake"),
        pytest.param((*HANDSHAKE, CHANNEL_OK, CONFIRM_OK), "timed out$", id="declares nothing"),
        pytest.param(
            (*HANDSHAKE, CHANNEL_OK, CONFIRM_OK, EXCHANGE_OK, DECLARED, BOUND),
            "^not confirmed by the broker within 0.5 s$",
            id="confirms nothing",
        ),
    ],
)
def test_publishing_to_a_server_that_says_nothing_raises(script: Sequence[bytes], complaint: str, peer: Peer) -> None:
    """Nothing is lost in silence and nobody waits for ever, wherever the server falls silent."""
    peer.open(script)
    app = Celery("unheard", broker=f"amqp://guest:guest@127.0.0.1:{peer.port}//", set_as_current=False)
    app.conf.update(
        broker_connection_timeout=0.5, broker_transport_options={"confirm_timeout": 0.5}, task_publish_retry=False
    )
    task = app.task(name="unheard.task", shared=False)(lambda: None)
    with pytest.raises(OperationalError, match=complaint):
        task.delay()
    app.close()
