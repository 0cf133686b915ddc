"""What an app of ours says about Redis, as addresses and as clients."""

from __future__ import annotations

from typing import Any

import pytest

import pyworker
from pyworker.backends.redis_client import connect
from pyworker.exceptions import ImproperlyConfigured
from pyworker.transport.redis_settings import broker_address, result_address
from pyworker.transport.redis_url import socket_url, without_password
from pyworker.transport.tls_settings import tls_settings
from pyworker.worker.config import RedisAddress
from pyworker.worker.redis_config import TlsSettings


def broker(url: Any, **settings: Any) -> RedisAddress:
    app = pyworker.Celery("settings", broker=url, set_as_current=False, **settings)
    return broker_address(app.conf, app.conf.broker_url)


def results(url: str, **settings: Any) -> RedisAddress:
    app = pyworker.Celery("settings", backend=url, set_as_current=False, **settings)
    return result_address(app.conf, url)


def test_every_redis_setting_is_applied() -> None:
    address = results(
        "redis://",
        redis_host="host", redis_port=7000, redis_db=2, redis_username="user", redis_password="pw",
        redis_socket_timeout=3, redis_socket_connect_timeout=2, redis_socket_keepalive=True,
        redis_backend_health_check_interval=11, redis_client_name="me",
    )  # fmt: skip
    assert (address.host, address.port, address.database) == ("host", 7000, 2)
    assert (address.username, address.password) == ("user", "pw")
    assert (address.socket_timeout_s, address.connect_timeout_s, address.keepalive) == (3.0, 2.0, True)
    assert (address.health_check_interval_s, address.client_name) == (11.0, "me")
    over = results("redis://u:p@there:7001/3?socket_timeout=9", redis_host="host", redis_db=2, redis_password="pw")
    assert (over.host, over.port, over.database, over.password) == ("there", 7001, 3, "p")
    assert over.socket_timeout_s == 9.0


def test_the_clients_pool_is_bounded_and_named() -> None:
    app = pyworker.Celery("settings", backend="redis://host", set_as_current=False)
    app.conf.update(redis_max_connections=7, redis_retry_on_timeout=True, redis_client_name="me")
    client = app.backend.client
    assert client.connection_pool.max_connections == 7
    assert client.connection_pool.connection_kwargs["client_name"] == "me"
    app.close()


def test_tls_of_settings_and_url() -> None:
    named = {"ssl_cert_reqs": "required", "ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False}
    expected = TlsSettings(ca_file="/ca.pem", check_hostname=False)
    assert broker("rediss://host", broker_use_ssl=named).tls == expected
    assert broker("redis://host", broker_use_ssl=named).tls == expected
    query = "ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs=/ca.pem&ssl_check_hostname=False"
    assert broker(f"rediss://host?{query}").tls == expected
    assert results(f"rediss://host?{query}").tls == expected
    assert broker("rediss://host").tls == TlsSettings(verify=False, check_hostname=False)
    assert broker("redis://host").tls is None
    with pytest.raises(ImproperlyConfigured, match="ssl_cert_reqs"):
        results("rediss://host")
    with pytest.raises(ImproperlyConfigured, match="rediss://"):
        results(f"redis://host?{query}")
    with pytest.raises(ImproperlyConfigured, match="redis_backend_use_ssl"):
        results("rediss://host", redis_backend_use_ssl=True)


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"ssl_cert_reqs": "maybe"}, "ssl_cert_reqs"),
        ({"ssl_cert_reqs": object()}, "ssl_cert_reqs"),
        ({"ssl_ca_certs": 5}, "ssl_ca_certs"),
        ({"ssl_ca_data": 5}, "ssl_ca_data"),
        ({"ssl_min_version": "new"}, "ssl_min_version"),
        ({"ssl_password": "x"}, "ssl_password"),
        ({"ssl_context": object()}, "ssl_context"),
        ({"ssl_validate_ocsp": True}, "ssl_validate_ocsp"),
    ],
)
def test_tls_parameters_that_cannot_be_used_are_named(parameters: dict[str, Any], named: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"broker_use_ssl: {named}"):
        tls_settings(parameters, setting="broker_use_ssl")


def test_sentinel() -> None:
    options = {"master_name": "m", "sentinel_kwargs": {"password": "of-sentinel", "socket_timeout": 1}}
    url = "sentinel://user:pw@a:7000/2;sentinel://b"
    for address, port in (
        (broker(url, broker_transport_options=options), 26379),
        (results(url, result_backend_transport_options=options), 6379),
    ):
        assert (address.database, address.username, address.password) == (2, "user", "pw")
        assert address.sentinel is not None
        nodes = [(node.host, node.port, node.username, node.password) for node in address.sentinel.nodes]
        assert nodes == [("a", 7000, None, "of-sentinel"), ("b", port, None, "of-sentinel")]
    client = connect(address)
    assert client.connection_pool.service_name == "m"  # type: ignore[attr-defined]
    with pytest.raises(ImproperlyConfigured, match="sentinel_kwargs: retry"):
        broker(url, broker_transport_options={"master_name": "m", "sentinel_kwargs": {"retry": object()}})


def test_alternate_urls() -> None:
    address = broker(["redis://a", "redis+socket:///run/b.sock", "rediss://c"])
    second, third = address.alternates
    assert (address.host, second.unix_path, third.host) == ("a", "/run/b.sock", "c")
    assert (address.tls, third.tls) == (None, TlsSettings(verify=False, check_hostname=False))
    shuffled = broker("redis://a;redis://b", broker_failover_strategy="shuffle")
    assert sorted([shuffled.host, shuffled.alternates[0].host]) == ["a", "b"]
    with pytest.raises(ImproperlyConfigured, match="only Sentinel"):
        results("redis://a;redis://b")
    with pytest.raises(ImproperlyConfigured, match="broker_url"):
        broker([])


def test_unix_sockets_in_every_spelling() -> None:
    for url in ("redis+socket:///run/r.sock?virtual_host=3", "unix:///run/r.sock?db=3", "socket:///run/r.sock?db=3"):
        address = broker(url)
        assert (address.unix_path, address.database) == ("/run/r.sock", 3)
        assert socket_url(url) == "redis+socket:///run/r.sock?virtual_host=3"
    assert socket_url("unix://:pw@/run/r.sock") == "redis+socket://:pw@/run/r.sock"
    assert socket_url("redis://host/1") == "redis://host/1"


def test_passwords_of_several_urls_are_hidden() -> None:
    assert without_password("sentinel://:a@x;sentinel://u:b@y") == "sentinel://:**@x;sentinel://u:**@y"


def test_credential_providers() -> None:
    url = "redis://user:pw@host?credential_provider=redis.UsernamePasswordCredentialProvider"
    address = broker(url)
    assert (address.username, address.password) == (None, None)
    assert address.credential_source is not None
    assert address.credential_source() == (None, "")
    assert connect(results("redis://host", redis_backend_credential_provider=address.credential_source.provider))
    with pytest.raises(ImproperlyConfigured, match="credential_provider"):
        broker("redis://host?credential_provider=no.such.Provider")
