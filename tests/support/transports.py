"""The brokers that the conformance suite knows: their servers, URLs and what they are able to do."""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyworker  # noqa: F401  # makes sqlite:// known to kombu
from support import emulators, transport_servers
from support.rabbitmq_server import RabbitmqHost
from support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Place:
    """Where a running broker is."""

    url: str
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    #: A dotted path for ``broker_transport``.
    transport: str = ""
    #: What runs the broker, where tests do something to it.
    server: Any = None


@dataclass(frozen=True)
class Transport:
    """One row of the table."""

    name: str
    #: Starts what is needed, to be ended by the stack.
    start: Callable[[ExitStack], Place]
    is_native: bool = False
    #: Part of the default run.
    is_default: bool = False
    #: Remote control reaches workers.
    has_fanout: bool = True
    #: Messages that come again are marked; without it the transport does not tell.
    tells_redelivery: bool = True
    #: ``celery`` or ``pyworker``: whose application it is.
    library: str = "celery"
    #: One short test instead of every scenario; where its emulator cannot be had, its row says so and nothing fails.
    is_smoke: bool = False


def _filesystem(stack: ExitStack) -> Place:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    for name in ("messages", "control", "processed"):
        (folder / name).mkdir()
    options = {
        "data_folder_in": str(folder / "messages"), "data_folder_out": str(folder / "messages"),
        "control_folder": str(folder / "control"), "processed_folder": str(folder / "processed"),
        "store_processed": True, "polling_interval": 0.05,
    }  # fmt: skip
    return Place("filesystem://", {"broker_transport_options": options}, transport="own_transports:AtomicFilesystem")


def _sqlalchemy_sqlite(stack: ExitStack) -> Place:
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    return Place(f"sqla+sqlite:///{folder}/broker.db")


def _sqlalchemy_postgresql(stack: ExitStack) -> Place:
    return Place(f"sqla+{stack.enter_context(transport_servers.postgresql())}")


def _redis(stack: ExitStack) -> Place:
    return Place(stack.enter_context(RedisServer()).url)


def _redis_through_kombu(stack: ExitStack) -> Place:
    server = stack.enter_context(RedisServer())
    return Place(server.url, transport="own_transports:SubclassedRedis", server=server)


def _rabbitmq(stack: ExitStack) -> Place:
    host = stack.enter_context(RabbitmqHost())
    return Place(host.url, server=host)


def _rabbitmq_quorum(stack: ExitStack) -> Place:
    host = stack.enter_context(RabbitmqHost())
    return Place(host.url, {"task_default_queue_type": "quorum"}, server=host)


def _rabbitmq_through_kombu(stack: ExitStack) -> Place:
    host = stack.enter_context(RabbitmqHost())
    return Place(host.url, transport="own_transports:SubclassedRabbitmq", server=host)


def _rabbitmq_quorum_through_kombu(stack: ExitStack) -> Place:
    place = _rabbitmq_through_kombu(stack)
    return Place(place.url, {"task_default_queue_type": "quorum"}, transport=place.transport)


def _sqlite(stack: ExitStack) -> Place:
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    return Place(f"sqlite:///{folder}/broker.db")


def _etcd(stack: ExitStack) -> Place:
    port = stack.enter_context(transport_servers.etcd())
    return Place(f"etcd://127.0.0.1:{port}/", {"broker_transport_options": {"polling_interval": 0.1}})


def _sqs(stack: ExitStack) -> Place:
    port = stack.enter_context(transport_servers.moto())
    options = {
        "region": "us-east-1", "polling_interval": 0.1, "wait_time_seconds": 0, "visibility_timeout": 600,
        "is_secure": False, "queue_name_prefix": f"t{secrets.token_hex(3)}-",
    }  # fmt: skip
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
    return Place(f"sqs://testing:testing@127.0.0.1:{port}/", {"broker_transport_options": options}, keys)


def _zookeeper(stack: ExitStack) -> Place:
    port = stack.enter_context(emulators.zookeeper())
    return Place(f"zookeeper://127.0.0.1:{port}/tasks", {"broker_transport_options": {"polling_interval": 0.1}})


def _azure_storage(stack: ExitStack) -> Place:
    port = stack.enter_context(emulators.azurite())
    place = f"{emulators.AZURITE_KEY}@http://127.0.0.1:{port}/{emulators.AZURITE_ACCOUNT}"
    return Place(f"azurestoragequeues://{place}", {"broker_transport_options": {"polling_interval": 0.1}})


def _pubsub(stack: ExitStack) -> Place:
    port = stack.enter_context(emulators.pubsub())
    options = {"wait_time_seconds": 1, "polling_interval": 0.1}
    environment = {"PUBSUB_EMULATOR_HOST": f"127.0.0.1:{port}", "PUBSUB_PROJECT_ID": "proj"}
    return Place("gcpubsub://projects/proj", {"broker_transport_options": options}, environment)


def _mongodb(stack: ExitStack) -> Place:
    port = stack.enter_context(emulators.mongodb())
    return Place(
        f"mongodb://127.0.0.1:{port}/tasks", {"broker_transport_options": {"polling_interval": 0.1}},
        transport="own_mongodb:PlainMongodb",
    )  # fmt: skip


def _kafka(stack: ExitStack) -> Place:
    port = stack.enter_context(emulators.kafka())
    return Place(f"confluentkafka://127.0.0.1:{port}/", {"broker_transport_options": {"wait_time_seconds": 1}})


def _consul(stack: ExitStack) -> Place:
    port = stack.enter_context(emulators.consul())
    return Place(f"consul://127.0.0.1:{port}", {"broker_transport_options": {"polling_interval": 0.1}})


def _pyro(stack: ExitStack) -> Place:
    port = stack.enter_context(emulators.pyro())
    environment = {"TEST_PYRO_PORT": str(port)}
    options = {"polling_interval": 0.1}
    return Place(
        "pyro://127.0.0.1/kombu.broker", {"broker_transport_options": options}, environment,
        transport="own_pyro:PyroElsewhere",
    )  # fmt: skip


TRANSPORTS = (
    Transport("Redis", _redis, is_native=True),
    Transport("RabbitMQ, classic queues", _rabbitmq, is_native=True),
    Transport("RabbitMQ, quorum queues", _rabbitmq_quorum, is_native=True),
    Transport("SQLite", _sqlite, is_native=True),
    Transport("filesystem", _filesystem, is_default=True),
    Transport("filesystem, an app of ours", _filesystem, library="pyworker"),
    Transport("SQLAlchemy, SQLite", _sqlalchemy_sqlite, has_fanout=False),
    Transport(
        "SQLAlchemy, SQLite, an app of ours", _sqlalchemy_sqlite, is_default=True, has_fanout=False, library="pyworker"
    ),
    Transport("SQLAlchemy, PostgreSQL", _sqlalchemy_postgresql, has_fanout=False),
    Transport("etcd", _etcd, has_fanout=False),
    Transport("SQS (moto)", _sqs, has_fanout=False),
    Transport("Redis through kombu", _redis_through_kombu),
    Transport("RabbitMQ through kombu, classic queues", _rabbitmq_through_kombu),
    Transport("RabbitMQ through kombu, quorum queues", _rabbitmq_quorum_through_kombu),
    Transport("ZooKeeper", _zookeeper, has_fanout=False, is_smoke=True),
    Transport("Azure Storage Queues (Azurite)", _azure_storage, has_fanout=False, is_smoke=True),
    Transport("Google Pub/Sub (its emulator)", _pubsub, is_smoke=True),
    Transport("MongoDB (mongo-java-server, without fan-out)", _mongodb, has_fanout=False, is_smoke=True),
    Transport("Kafka", _kafka, has_fanout=False, is_smoke=True),
    Transport("Consul", _consul, has_fanout=False, is_smoke=True),
    Transport("Pyro", _pyro, has_fanout=False, is_smoke=True),
)


def chosen(*, is_smoke: bool = False) -> list[Transport]:
    """Return the transports of this run: ``CONFORMANCE`` is ``all``, names separated by ``;``, or not set.

    Args:
        is_smoke: those of the short test, else those of the scenarios.
    """
    return [transport for transport in _asked() if transport.is_smoke == is_smoke]


def _asked() -> list[Transport]:
    asked = os.environ.get("CONFORMANCE", "")
    if asked == "all":
        return list(TRANSPORTS)
    if asked:
        named = [name.strip() for name in asked.split(";")]
        unknown = set(named) - {transport.name for transport in TRANSPORTS}
        assert not unknown, f"CONFORMANCE names no transport of the suite: {unknown}"
        return [transport for transport in TRANSPORTS if transport.name in named]
    return [transport for transport in TRANSPORTS if transport.is_default]
