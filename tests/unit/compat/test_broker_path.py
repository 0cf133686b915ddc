"""Which way to a broker is taken, and why: natively where plain data meets kombu's own transport."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from celery import Celery
from kombu.common import Broadcast
from kombu.transport.pyamqp import Transport as PyamqpTransport
from kombu.transport.redis import Transport as RedisTransport

import pyworker
from pyworker.compat.celery.broker_choice import broker_config, broker_path
from pyworker.exceptions import ImproperlyConfigured
from pyworker.transport.native_paths import NotNative, path_of_settings, require_plain


class OwnRedis(RedisTransport):
    pass


class OwnRabbitmq(PyamqpTransport):
    pass


def celery_app(url: str, **settings: Any) -> Celery:
    app = Celery("path", broker=url, set_as_current=False)
    app.conf.update(settings)
    return app


@pytest.mark.parametrize(
    ("url", "leads_to"), [("redis://a", "Redis"), ("amqp://a", "RabbitMQ"), ("pyamqp://a//", "RabbitMQ")]
)
def test_native_transports_are_native(url: str, leads_to: str) -> None:
    path = broker_path(celery_app(url))
    assert (path.is_native, path.reason) == (True, leads_to)


@pytest.mark.parametrize(
    ("url", "settings", "reason"),
    [
        ("filesystem://", {}, "'filesystem' has no native counterpart"),
        ("memory://", {}, "'memory' has no native counterpart"),
        ("redis://a", {"broker_transport": OwnRedis}, "OwnRedis"),
        ("amqp://a", {"broker_transport": OwnRabbitmq}, "OwnRabbitmq"),
        ("redis://a", {"task_queues": [Broadcast("all")]}, "fanout exchange 'all'"),
        ("redis://a", {"broker_transport_options": {"ack_emulation": False}}, "ack_emulation=False"),
        ("redis://a", {"broker_transport_options": {"socket_keepalive_options": {1: 2}}}, "socket_keepalive_options"),
        ("rediss://a", {"broker_use_ssl": {"context": ssl.create_default_context()}}, "SSLContext"),
    ],
)
def test_everything_else_goes_through_kombu(url: str, settings: dict[str, Any], reason: str) -> None:
    app = celery_app(url, **settings)
    path = broker_path(app)
    assert not path.is_native
    assert reason in path.reason
    config: Any = broker_config(app, "n@h", 8)
    assert (config.kind, config.prefetch_count, config.reason) == ("kombu", 8, path.reason)


def test_transport_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="No such transport: carrierpigeon"):
        broker_path(celery_app("carrierpigeon://loft"))


@pytest.mark.parametrize(
    ("url", "settings", "is_native"),
    [
        ("redis://a", {}, True),
        ("memory://", {}, True),
        ("filesystem://", {}, False),
        ("redis://a", {"broker_transport": OwnRedis}, False),
        ("amqp://a", {"broker_use_ssl": {"context": ssl.create_default_context()}}, False),
    ],
)
def test_own_apps_take_the_same_ways(url: str, settings: dict[str, Any], is_native: bool) -> None:
    app = pyworker.Celery("path", broker=url, set_as_current=False)
    app.conf.update(settings)
    assert path_of_settings(app.conf, app.conf.broker_url).is_native is is_native


def test_plain_data_is_told_from_objects_at_any_depth() -> None:
    require_plain("s", {"ssl_cert_reqs": ssl.CERT_NONE, "ssl_ca_certs": "/a", "more": [1, None, True]})
    with pytest.raises(NotNative, match=r"s\['a'\]\['b'\] is no plain data but a builtins.object"):
        require_plain("s", {"a": {"b": object()}})
