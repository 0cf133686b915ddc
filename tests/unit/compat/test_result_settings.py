"""Results are written natively only where nothing of the backend is the application's own."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from celery.backends.redis import RedisBackend

from pyworker.compat.celery.result_settings import redis_results


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


class OwnBackend(RedisBackend):  # type: ignore[misc]
    """A subclass, as warehouse has one."""


@pytest.mark.parametrize("backend", [None, "cache+memory://", "rpc://", "rediss://host?ssl_cert_reqs=required"])
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
