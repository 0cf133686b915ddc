"""Broker settings reach the engine as kombu would use them, or are refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from kombu import Exchange, Queue
from kombu.common import Broadcast
from kombu.transport.redis import Transport

from pyworker.compat.celery.broker_settings import redis_broker
from pyworker.exceptions import ImproperlyConfigured
from pyworker.worker.config import QueueOrder


def app_with(url: Any = "redis://127.0.0.1:1/0", **settings: Any) -> Celery:
    app = Celery("broker", broker=url, set_as_current=False)
    app.conf.update(settings)
    return app


def kombus_parameters(app: Celery) -> dict[str, Any]:
    """Return what kombu's channel would connect with, without connecting."""
    connection = app.connection_for_read()
    channel = Transport.Channel.__new__(Transport.Channel)
    channel.connection = type("Bound", (), {"client": connection, "default_port": 6379})()
    for name, value in connection.transport_options.items():
        setattr(channel, name, value)
    parameters: dict[str, Any] = channel._connparams()
    return parameters


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://host",
        "redis://host:7000",
        "redis://host:7000/3",
        "redis://:secret@host:7000/3",
        "redis://user:secret@host:7000/3",
        "redis://user:p%40ss%2Fword@host/1",
        "redis://@host/2",
        "redis://host//4",
    ],
)
def test_tcp_address_is_kombus(url: str) -> None:
    app = app_with(url)
    expected = kombus_parameters(app)
    address = redis_broker(app, "n@h").address
    assert (address.host, address.port, address.database) == (expected["host"], expected["port"], expected["db"])
    assert (address.username or None, address.password or None) == (
        expected["username"] or None,
        expected["password"] or None,
    )
    assert address.unix_path is None


@pytest.mark.parametrize(
    "url",
    [
        "redis+socket:///run/redis.sock",
        "redis+socket:///run/redis.sock?virtual_host=5",
        "redis+socket://user:secret@/run/redis.sock?virtual_host=5",
    ],
)
def test_unix_address_is_kombus(url: str) -> None:
    app = app_with(url)
    expected = kombus_parameters(app)
    address = redis_broker(app, "n@h").address
    assert (address.unix_path, address.database) == (expected["path"], expected["db"])
    assert (address.username or None, address.password or None) == (
        expected["username"] or None,
        expected["password"] or None,
    )


def test_parts_of_the_address_may_be_settings() -> None:
    app = app_with("redis://", broker_host="elsewhere", broker_port=7001, broker_vhost="3", broker_password="secret")
    expected = kombus_parameters(app)
    address = redis_broker(app, "n@h").address
    assert (address.host, address.port, address.database, address.password) == (
        expected["host"],
        expected["port"],
        expected["db"],
        expected["password"],
    )


def test_transport_options_are_applied() -> None:
    config = redis_broker(
        app_with(
            broker_transport_options={
                "visibility_timeout": 7,
                "unacked_key": "u",
                "unacked_index_key": "ui",
                "priority_steps": list(range(10)),
                "sep": ":",
                "global_keyprefix": "pre.",
                "queue_order_strategy": "priority",
                "socket_timeout": 3,
                "socket_connect_timeout": 2,
                "socket_keepalive": True,
                "health_check_interval": 11,
                "client_name": "me",
                "max_connections": 5,
                "fanout_prefix": True,
                "an_option_of_another_transport": object(),
            }
        ),
        "n@h",
    )
    assert config.visibility_timeout_s == 7.0
    assert (config.unacked_key, config.unacked_index_key) == ("u", "ui")
    assert config.priority_steps == tuple(range(10))
    assert (config.separator, config.global_keyprefix) == (":", "pre.")
    assert config.queue_order is QueueOrder.PRIORITY
    address = config.address
    assert (address.socket_timeout_s, address.connect_timeout_s, address.keepalive) == (3.0, 2.0, True)
    assert (address.health_check_interval_s, address.client_name) == (11.0, "me")


def test_sorted_queues_are_read_in_that_order() -> None:
    app = app_with(
        task_queues=[Queue("b", Exchange("b"), "b"), Queue("a", Exchange("a"), "a")],
        broker_transport_options={"queue_order_strategy": "sorted"},
    )
    config = redis_broker(app, "n@h")
    assert (config.queues, config.queue_order) == (("a", "b"), QueueOrder.PRIORITY)


def test_owner_is_unique() -> None:
    app = app_with()
    assert redis_broker(app, "n@h").owner != redis_broker(app, "n@h").owner


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (True, True, 100)),
        ({"broker_connection_retry": False}, (False, False, 100)),
        ({"broker_connection_retry": False, "broker_connection_retry_on_startup": True}, (False, True, 100)),
        ({"broker_connection_retry_on_startup": False}, (True, False, 100)),
        ({"broker_connection_max_retries": None}, (True, True, None)),
        ({"broker_connection_max_retries": 0}, (True, True, None)),
        ({"broker_connection_max_retries": 3}, (True, True, 3)),
    ],
)
def test_retry_settings(settings: dict[str, Any], expected: tuple[Any, ...]) -> None:
    retry = redis_broker(app_with(**settings), "n@h").retry
    assert (retry.retry, retry.retry_on_startup, retry.max_retries) == expected


@pytest.mark.parametrize(
    ("url", "settings", "named"),
    [
        ("amqp://", {}, "transport 'amqp'"),
        ("memory://", {}, "transport 'memory'"),
        ("sentinel://a;sentinel://b", {"broker_transport_options": {"master_name": "m"}}, "transport 'sentinel'"),
        ("rediss://host?ssl_cert_reqs=required", {}, "TLS"),
        ("redis://host", {"broker_use_ssl": {"ssl_cert_reqs": 2}}, "TLS"),
        ("redis://a;redis://b", {}, "failover"),
        (["redis://a", "redis://b"], {}, "failover"),
        ("redis://a", {"broker_transport_options": {"ack_emulation": False}}, "ack_emulation"),
        ("redis://a", {"broker_transport_options": {"socket_keepalive_options": {1: 2}}}, "socket_keepalive_options"),
        ("redis://a", {"broker_transport_options": {"queue_order_strategy": "own:cycle"}}, "queue_order_strategy"),
        ("redis://a", {"broker_transport_options": {"client_name": lambda: "x"}}, "client_name"),
        ("redis://a/name", {}, "Database is int"),
    ],
)
def test_what_is_not_supported_is_named(url: Any, settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=named):
        redis_broker(app_with(url, **settings), "n@h")


def test_transport_subclass_is_refused() -> None:
    class OwnTransport(Transport):  # type: ignore[misc]
        pass

    with pytest.raises(ImproperlyConfigured, match="OwnTransport"):
        redis_broker(app_with("redis://a", broker_transport=OwnTransport), "n@h")


def test_broadcast_queue_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="broadcast"):
        redis_broker(app_with(task_queues=[Broadcast("everybody")]), "n@h")
