"""How the bench looks behind the libraries: into the queue and the results, on Redis, RabbitMQ or in a SQLite file."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import redis
from kombu import Connection

from pyworker._native import AmqpPublisher, SqliteConsumer, build_amqp_message
from pyworker.bench.peers.kombu_store import KombuStore
from pyworker.transport.amqp_url import is_amqp, parse_amqp_urls
from pyworker.transport.sqlite_file import open_file
from pyworker.transport.sqlite_url import is_sqlite_url, parse_sqlite_url

if TYPE_CHECKING:
    from pyworker.bench.settings import AppSettings

_CHUNK = 500


class Store(Protocol):
    """The broker and the result store of one run, past every library."""

    def push(self, queue: str, messages: Sequence[bytes]) -> None:
        """Put messages into a queue."""

    def pop(self, queue: str) -> bytes | None:
        """Take the oldest message out of a queue and forget the queue."""

    def results(self, keys: Sequence[str]) -> list[bytes | None]:
        """Read results."""

    def stored(self, keys: Sequence[str]) -> int:
        """Count the results that are there."""

    def leftovers(self, queue: str) -> int:
        """Count queued and unacknowledged messages."""

    def forget(self, queue: str, keys: Sequence[str]) -> None:
        """Delete a queue and results."""

    def close(self) -> None:
        """Close the connections."""


def open_store(settings: AppSettings, app: Any) -> Store:
    """Return what the settings name; the application's own way where there is no other."""
    if is_sqlite_url(settings.broker_url):
        return SqliteStore(settings)
    if is_amqp(settings.broker_url):
        return RabbitmqStore(settings)
    return RedisStore(settings) if settings.broker_url.startswith("redis") else KombuStore(app)


class RedisResults:
    """Results on a Redis server."""

    def __init__(self, url: str) -> None:
        self._backend = redis.Redis.from_url(url)

    def results(self, keys: Sequence[str]) -> list[bytes | None]:
        """Read results."""
        found: list[bytes | None] = self._backend.mget(list(keys))  # type: ignore[assignment]
        return found

    def stored(self, keys: Sequence[str]) -> int:
        """Count the results that are there."""
        pipeline = self._backend.pipeline(transaction=False)
        for start in range(0, len(keys), _CHUNK):
            pipeline.exists(*keys[start : start + _CHUNK])
        return sum(int(count) for count in pipeline.execute())

    def forget_results(self, keys: Sequence[str]) -> None:
        """Delete results."""
        for start in range(0, len(keys), _CHUNK):
            self._backend.unlink(*keys[start : start + _CHUNK])

    def close(self) -> None:
        """Close the connection."""
        self._backend.close()


class RedisStore(RedisResults):
    """kombu's keys on a Redis server."""

    def __init__(self, settings: AppSettings) -> None:
        super().__init__(settings.backend_url)
        self._broker = redis.Redis.from_url(settings.broker_url)

    def push(self, queue: str, messages: Sequence[bytes]) -> None:
        """Put messages into a queue."""
        self._broker.lpush(queue, *messages)

    def pop(self, queue: str) -> bytes | None:
        """Take the oldest message out of a queue and forget the queue."""
        raw = self._broker.rpop(queue)
        self._forget_queue(queue)
        return raw if isinstance(raw, bytes) else None

    def leftovers(self, queue: str) -> int:
        """Count queued and unacknowledged messages."""
        return int(self._broker.llen(queue)) + int(self._broker.hlen("unacked"))

    def forget(self, queue: str, keys: Sequence[str]) -> None:
        """Delete a queue and results."""
        with contextlib.suppress(redis.RedisError):  # a server that is gone keeps nothing, and is not the news
            self.forget_results(keys)
            self._forget_queue(queue)

    def close(self) -> None:
        """Close the connections."""
        super().close()
        self._broker.close()

    def _forget_queue(self, queue: str) -> None:
        # Priorities have lists of their own, and kombu's versions differ in the bindings that they write.
        suffixes = [f"{queue}\x06\x16{step}" for step in (3, 6, 9)]
        self._broker.unlink(queue, *suffixes, f"_kombu.binding.{queue}", f"_kombu.binding_permanent.{queue}")


class RabbitmqStore(RedisResults):
    """Queues on a RabbitMQ node, results on a Redis server; messages are in the form that they have on Redis."""

    def __init__(self, settings: AppSettings) -> None:
        super().__init__(settings.backend_url)
        self._connection = Connection(settings.broker_url)
        self._publisher = AmqpPublisher(
            list(
                parse_amqp_urls(
                    settings.broker_url, setting="--broker", defaults={}, connect_timeout_s=None, heartbeat_s=None,
                    connection_name="bench",
                )
            )
        )  # fmt: skip

    def push(self, queue: str, messages: Sequence[bytes]) -> None:
        """Put messages into a queue."""
        self._publisher.publish_many([("", queue, True, _as_amqp(message)) for message in messages])

    def pop(self, queue: str) -> bytes | None:
        """Take the oldest message out of a queue and forget the queue."""
        channel = self._connection.default_channel
        message = channel.basic_get(queue, no_ack=True)
        channel.queue_delete(queue)
        if message is None:
            return None
        properties = dict(message.properties)
        body = message.body if isinstance(message.body, bytes) else message.body.encode()
        envelope = {
            "body": base64.b64encode(body).decode(),
            "headers": properties.pop("application_headers", {}),
            "content-type": properties.pop("content_type"),
            "content-encoding": properties.pop("content_encoding"),
            "properties": properties,
        }
        return json.dumps(envelope).encode()

    def leftovers(self, queue: str) -> int:
        """Count the queued messages; those that a consumer holds cannot be asked for."""
        return int(self._connection.default_channel.queue_declare(queue, passive=True).message_count)

    def forget(self, queue: str, keys: Sequence[str]) -> None:
        """Delete a queue and results."""
        with contextlib.suppress(redis.RedisError, *self._connection.connection_errors):
            self.forget_results(keys)
            self._connection.default_channel.queue_delete(queue)

    def close(self) -> None:
        """Close the connections."""
        super().close()
        self._publisher.close()
        self._connection.close()


def _as_amqp(raw: bytes) -> bytes:
    message = json.loads(raw)
    return build_amqp_message(
        base64.b64decode(message["body"]),
        json.dumps(message["headers"]).encode(),
        json.dumps(message["properties"]).encode(),
        message["content-type"],
        message["content-encoding"],
    )


class SqliteStore:
    """A SQLite file."""

    def __init__(self, settings: AppSettings) -> None:
        self._file = open_file(parse_sqlite_url(settings.broker_url, setting="--broker"), setting="--broker")
        self._backend = open_file(parse_sqlite_url(settings.backend_url, setting="--backend"), setting="--backend")

    def push(self, queue: str, messages: Sequence[bytes]) -> None:
        """Put messages into a queue."""
        self._file.publish_many([(queue, 0, message) for message in messages])

    def pop(self, queue: str) -> bytes | None:
        """Take the oldest message out of a queue and forget the queue."""
        consumer = SqliteConsumer(self._file, "bench", 60.0)
        fetched = consumer.fetch([(queue, True)], 1)
        consumer.close()
        self._file.delete_queue(queue)
        return fetched[0][3] if fetched else None

    def results(self, keys: Sequence[str]) -> list[bytes | None]:
        """Read results."""
        return self._backend.get_many([key.encode() for key in keys])

    def stored(self, keys: Sequence[str]) -> int:
        """Count the results that are there."""
        return sum(value is not None for value in self.results(keys))

    def leftovers(self, queue: str) -> int:
        """Count queued and unacknowledged messages."""
        return sum(ready + later + held for name, ready, later, held in self._file.queues() if name == queue)

    def forget(self, queue: str, keys: Sequence[str]) -> None:
        """Delete a queue and results."""
        self._file.delete_queue(queue)
        self._backend.delete([key.encode() for key in keys])

    def close(self) -> None:
        """Close the connections."""
        self._file.close()
        self._backend.close()
