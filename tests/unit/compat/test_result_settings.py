"""Results are written natively only where nothing of the backend is the application's own."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import redis
from celery import Celery
from celery.backends.redis import RedisBackend

from pyworker.compat.celery.result_settings import redis_results
from pyworker.compat.celery.versions import installed_version
from pyworker.worker.redis_config import TlsSettings

CELERY = installed_version()


def app_with(backend: Any, **settings: Any) -> Celery:
    app = Celery("results", broker="redis://127.0.0.1:1/0", backend=backend, set_as_current=False)
    app.conf.update(settings)
    return app


@pytest.mark.parametrize(
    ("url", "host", "port", "database", "unix_path"),
    [
        ("redis://host:7000/3", "host", 7000, 3, None),
        ("redis://host", "host", 6379, 0, None),
        ("redis+socket:///run/redis.sock?virtual_host=4", "localhost", 6379, 4, "/run/redis.sock"),
    ],
)
def test_address_is_the_backends(url: str, host: str, port: int, database: int, unix_path: str | None) -> None:
    config = redis_results(app_with(url))
    assert config is not None
    address = config.address
    assert (address.host, address.port, address.database, address.unix_path) == (host, port, database, unix_path)


def test_credentials_expiry_and_retry_are_the_backends() -> None:
    config = redis_results(
        app_with(
            "redis://user:secret@host/0",
            result_expires=60,
            result_backend_transport_options={"retry_policy": {"max_retries": 7, "interval_max": 5}},
        )
    )
    assert config is not None
    assert (config.address.username, config.address.password, config.expires_s) == ("user", "secret", 60)
    assert (config.retry.max_retries, config.retry.interval_max_s) == (7, 5.0)


def test_results_without_expiry_stay() -> None:
    config = redis_results(app_with("redis://host", result_expires=0))
    assert config is not None
    assert config.expires_s is None


def test_tls_is_the_backends() -> None:
    in_url = "rediss://host/1?ssl_cert_reqs=required&ssl_ca_certs=%2Fetc%2Fca.pem&ssl_check_hostname=false"
    config = redis_results(app_with(in_url))
    assert config is not None
    assert config.address.tls == TlsSettings(ca_file="/etc/ca.pem", check_hostname=False)
    named = {"ssl_cert_reqs": ssl.CERT_NONE, "ssl_certfile": "/c.pem", "ssl_keyfile": "/k.pem"}
    # Before 5.7 Celery wants the scheme to say it too.
    config = redis_results(
        app_with("redis://host" if CELERY >= (5, 7) else "rediss://host", redis_backend_use_ssl=named)
    )
    assert config is not None
    expected = TlsSettings(verify=False, check_hostname=False, cert_file="/c.pem", key_file="/k.pem")
    assert config.address.tls == expected


def test_sentinel_is_the_backends() -> None:
    options = {"master_name": "m", "sentinel_kwargs": {"password": "of-sentinel"}, "min_other_sentinels": 2}
    config = redis_results(
        app_with("sentinel://:pw@a:26379/3;sentinel://b:26380/3", result_backend_transport_options=options)
    )
    assert config is not None
    address = config.address
    assert (address.database, address.password) == (3, "pw")
    assert address.sentinel is not None
    assert (address.sentinel.master_name, address.sentinel.min_other_sentinels) == ("m", 2)
    nodes = [(node.host, node.port, node.password) for node in address.sentinel.nodes]
    assert nodes == [("a", 26379, "of-sentinel"), ("b", 26380, "of-sentinel")]


def test_redis_settings_are_the_backends() -> None:
    config = redis_results(
        app_with(
            "redis://",
            redis_host="host", redis_port=7000, redis_db=2, redis_username="user", redis_password="pw",
            redis_socket_timeout=3, redis_socket_connect_timeout=2, redis_socket_keepalive=True,
            redis_backend_health_check_interval=11, redis_client_name="me", redis_max_connections=5,
            redis_retry_on_timeout=True,
        )
    )  # fmt: skip
    assert config is not None
    address = config.address
    assert (address.username, address.password) == ("user", "pw")
    assert (address.socket_timeout_s, address.connect_timeout_s, address.keepalive) == (3.0, 2.0, True)
    # Celery knows the name since 5.6.
    assert (address.health_check_interval_s, address.client_name) == (11.0, "me" if CELERY >= (5, 6) else None)


def test_credential_provider_is_asked() -> None:
    provider = redis.UsernamePasswordCredentialProvider("user", "token")
    config = redis_results(app_with("redis://other:pw@host", redis_backend_credential_provider=provider))
    assert config is not None
    if CELERY < (5, 6):
        # It does not know the setting.
        assert (config.address.username, config.address.password) == ("other", "pw")
        assert config.address.credential_source is None
        return
    assert (config.address.username, config.address.password) == (None, None)
    assert config.address.credential_source is not None
    assert config.address.credential_source() == ("user", "token")


class OwnBackend(RedisBackend):  # type: ignore[misc]
    """A subclass, as warehouse has one."""


@pytest.mark.parametrize(
    "backend", [None, "cache+memory://", "rpc://", "rediss://host?ssl_cert_reqs=required&ssl_ciphers=ALL"]
)
def test_other_backends_are_left_to_celery(backend: Any) -> None:
    assert redis_results(app_with(backend)) is None


def test_subclass_is_left_to_celery(monkeypatch: pytest.MonkeyPatch) -> None:
    app = app_with("redis://host")
    monkeypatch.setattr(Celery, "backend", OwnBackend(app=app))
    assert redis_results(app) is None


@pytest.mark.parametrize("name", ["_set", "store_result", "encode_result"])
def test_patched_backend_is_left_to_celery(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = getattr(RedisBackend, name)
    monkeypatch.setattr(RedisBackend, name, lambda self, *args, **kwargs: original(self, *args, **kwargs))
    assert redis_results(app_with("redis://host")) is None


def test_backend_with_a_patched_instance_is_left_to_celery() -> None:
    app = app_with("redis://host")
    app.backend.set = lambda *_: None
    assert redis_results(app) is None


def test_separate_expiry_of_failures_is_left_to_celery() -> None:
    app = app_with("redis://host")
    app.backend.failure_expires = 5
    assert redis_results(app) is None
