"""Broker settings reach the engine as kombu would use them, or are refused by name."""

from __future__ import annotations

import inspect
import ssl
import sys
from typing import Any

import pytest
import redis
from celery import Celery
from kombu import Exchange, Queue
from kombu.common import Broadcast
from kombu.transport.redis import Channel, Transport

from pyworker.compat.celery.broker_settings import redis_broker
from pyworker.exceptions import ImproperlyConfigured
from pyworker.transport.native_paths import NotNative
from pyworker.worker.config import QueueOrder
from pyworker.worker.redis_config import TlsSettings


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
        ("sentinel://a;sentinel://b", {}, "master_name"),
        ("redis://a;amqp://b", {}, "must all lead to Redis"),
        ("redis://a;redis://b", {"broker_failover_strategy": lambda urls: iter(urls)}, "broker_failover_strategy"),
        ("redis://host", {"broker_use_ssl": {"ssl_ciphers": "ALL"}}, "ssl_ciphers"),
        ("redis://host", {"broker_use_ssl": {"ssl_cert_reqs": "always"}}, "ssl_cert_reqs"),
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


def test_tls_of_the_url_and_of_the_settings() -> None:
    unverified = redis_broker(app_with("rediss://host"), "n@h").address.tls
    assert unverified == TlsSettings(verify=False, check_hostname=False)
    in_url = "rediss://host?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs=%2Fca.pem&ssl_check_hostname=false"
    expected = TlsSettings(ca_file="/ca.pem", check_hostname=False)
    assert redis_broker(app_with(in_url), "n@h").address.tls == expected
    parameters = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False}
    app = app_with("redis://host", broker_use_ssl=parameters)
    assert redis_broker(app, "n@h").address.tls == expected
    assert kombus_parameters(app)["ssl_ca_certs"] == "/ca.pem"
    full = {
        "ssl_certfile": "/c.pem", "ssl_keyfile": "/k.pem", "ssl_ca_path": "/ca", "ssl_ca_data": "-----",
        "ssl_min_version": ssl.TLSVersion.TLSv1_3, "ssl_ciphers": None,
    }  # fmt: skip
    assert redis_broker(app_with("rediss://host", broker_use_ssl=full), "n@h").address.tls == TlsSettings(
        cert_file="/c.pem", key_file="/k.pem", ca_path="/ca", ca_data=b"-----", only_tls13=True,
        check_hostname=inspect.signature(redis.SSLConnection).parameters["ssl_check_hostname"].default,
    )  # fmt: skip


def test_tls_without_a_dictionary_is_kombus_none(caplog: pytest.LogCaptureFixture) -> None:
    app = app_with("redis://host", broker_use_ssl=True)
    assert "ssl_cert_reqs" not in kombus_parameters(app)
    assert redis_broker(app, "n@h").address.tls is None
    assert "not encrypted" in caplog.text


@pytest.mark.parametrize(
    "url", ["redis://a/1;redis://:pw@b:7001/2;rediss://c", ["redis://a/1", "redis://:pw@b:7001/2", "rediss://c"]]
)
def test_alternate_urls_follow_in_order(url: Any) -> None:
    address = redis_broker(app_with(url), "n@h").address
    assert (address.host, address.database, address.password) == ("a", 1, None)
    second, third = address.alternates
    assert (second.host, second.port, second.database, second.password) == ("b", 7001, 2, "pw")
    assert (third.host, third.tls is not None) == ("c", True)


def test_shuffled_urls_are_all_there() -> None:
    app = app_with("redis://a;redis://b;redis://c", broker_failover_strategy="shuffle")
    address = redis_broker(app, "n@h").address
    assert sorted([address.host, *(other.host for other in address.alternates)]) == ["a", "b", "c"]


def test_sentinel_is_kombus() -> None:
    options = {
        "master_name": "m", "min_other_sentinels": 1, "socket_timeout": 3,
        "sentinel_kwargs": {"password": "of-sentinel", "socket_timeout": 0.5, "ssl": True, "ssl_ca_certs": "/ca"},
    }  # fmt: skip
    app = app_with("sentinel://:pw@a:7000/4;sentinel://b", broker_transport_options=options)
    address = redis_broker(app, "n@h").address
    assert (address.database, address.password, address.socket_timeout_s) == (4, "pw", 3.0)
    assert address.sentinel is not None
    assert (address.sentinel.master_name, address.sentinel.min_other_sentinels) == ("m", 1)
    places = [(node.host, node.port, node.password, node.socket_timeout_s) for node in address.sentinel.nodes]
    assert places == [("a", 7000, "of-sentinel", 0.5), ("b", 26379, "of-sentinel", 0.5)]
    assert all(node.tls is not None and node.tls.ca_file == "/ca" for node in address.sentinel.nodes)
    alone = redis_broker(app_with("sentinel://only:7001", broker_transport_options={"master_name": "m"}), "n@h")
    assert alone.address.sentinel is not None
    assert [(node.host, node.port) for node in alone.address.sentinel.nodes] == [("only", 7001)]


def test_a_credential_provider_is_asked_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokens_of_a_test", sys.modules[__name__])
    url = "redis://user:pw@host?credential_provider=tokens_of_a_test.Tokens"
    if not hasattr(Channel, "_process_credential_provider"):
        # kombu before 5.6 takes it for an option of every connection, and so do we.
        with pytest.raises(TypeError, match="'credential_provider'"):
            app_with(url).connection_for_read()
        with pytest.raises(TypeError, match="'credential_provider'"):
            redis_broker(app_with(url), "n@h")
        return
    address = redis_broker(app_with(url), "n@h").address
    assert (address.username, address.password) == (None, None)
    assert address.credential_source is not None
    assert [address.credential_source() for _ in range(2)] == [("user", "token 1"), ("user", "token 2")]
    with pytest.raises(ImproperlyConfigured, match="no redis.CredentialProvider"):
        redis_broker(app_with("redis://host?credential_provider=collections.OrderedDict"), "n@h")


class Tokens(redis.CredentialProvider):
    """A new token for each connection."""

    def __init__(self) -> None:
        self.given = 0

    def get_credentials(self) -> tuple[str, str]:
        self.given += 1
        return "user", f"token {self.given}"


def test_transport_subclass_is_left_to_kombu() -> None:
    class OwnTransport(Transport):  # type: ignore[misc]
        pass

    with pytest.raises(NotNative, match="OwnTransport"):
        redis_broker(app_with("redis://a", broker_transport=OwnTransport), "n@h")


def test_broadcast_queue_is_left_to_kombu() -> None:
    with pytest.raises(NotNative, match="fanout exchange 'everybody'"):
        redis_broker(app_with(task_queues=[Broadcast("everybody")]), "n@h")
