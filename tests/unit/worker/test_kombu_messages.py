"""What comes through kombu's transports is decompressed with a bound, and is otherwise kombu's message."""

from __future__ import annotations

import zlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection
from kombu.transport.pyamqp import Message as PyamqpMessage

from pyworker import compression
from pyworker._native import NativeError
from pyworker.worker.kombu_messages import bound_messages

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 1000


@pytest.fixture
def channel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A channel in memory with a queue, and a bound that is soon reached."""
    monkeypatch.setattr(compression, "MAX_BYTES", LIMIT)
    with Connection("memory://") as connection:
        opened = connection.channel()
        bound_messages(opened)
        queue = connection.SimpleQueue("bounded", channel=opened)
        yield SimpleNamespace(raw=opened, put=queue.put, get=lambda: opened.basic_get("bounded"))
        queue.queue.delete()
        queue.close()


@pytest.mark.parametrize("method", ["zlib", "bzip2", "lzma", "zstd", "brotli", None])
def test_messages_are_decompressed_and_go_back_as_kombus_do(channel: Any, method: str | None) -> None:
    channel.put({"text": "x" * 500}, compression=method)
    for is_redelivered in (False, True):
        message = channel.get()
        assert not message.errors
        assert message.payload == {"text": "x" * 500}
        assert message.headers.get("compression") == (
            None if is_redelivered or method is None else message_type(method)
        )
        channel.raw.qos.reject(message.delivery_tag, requeue=not is_redelivered)
    assert channel.get() is None


def message_type(method: str) -> str:
    return compression.compress(b"", method)[1]


def test_what_becomes_too_large_is_an_error_of_the_message(channel: Any) -> None:
    channel.put({"text": "x" * LIMIT}, compression="zlib")
    message = channel.get()
    with pytest.raises(NativeError, match=str(LIMIT)):
        message._reraise_error()
    assert message.headers["compression"] == "application/x-gzip"
    assert zlib.decompress(message.body)


def test_damaged_and_unknown_compressions_are_errors_of_the_message(channel: Any) -> None:
    for method, kind in (("application/x-gzip", NativeError), ("application/x-nobody", KeyError)):
        channel.put(b"not compressed", serializer="raw", headers={"compression": method})
        message = channel.get()
        with pytest.raises(kind):
            message._reraise_error()
        assert message.body == b"not compressed"


def test_messages_of_other_transports_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "MAX_BYTES", LIMIT)
    channel: Any = SimpleNamespace(Message=PyamqpMessage, no_ack_consumers=set())
    bound_messages(channel)
    bound_messages(channel)
    made = []
    for size in (LIMIT, LIMIT + 1):
        raw = SimpleNamespace(
            body=zlib.compress(b"x" * size), delivery_tag="1", delivery_info={},
            properties={"application_headers": {"compression": "application/x-gzip", "id": "i"}},
        )  # fmt: skip
        made.append(channel.Message(raw, channel=channel))
    small, large = made
    assert (small.body, small.headers["id"], small.errors) == (b"x" * LIMIT, "i", [])
    assert isinstance(small, PyamqpMessage)
    assert isinstance(large.errors[0][1], NativeError)
