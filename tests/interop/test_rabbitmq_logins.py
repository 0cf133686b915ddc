"""Ways into RabbitMQ: TLS and every login method, for worker and publisher of both libraries, beside stock Celery."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery as StockCelery

from pyworker import Celery
from pyworker._native import AmqpPublisher
from pyworker.compat.celery.amqp_settings import amqp_broker
from pyworker.exceptions import ImproperlyConfigured, OperationalError
from pyworker.transport.amqp_config import DeclareQueue
from pyworker.transport.amqp_tls import amqp_tls
from support.connected import STOCK, WORKER, connected_client, connected_worker
from support.rabbitmq_server import RabbitmqHost
from support.redis_server import RedisServer
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("rabbitmq"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning"),
]
#: The user that a client's certificate names.
USER = "pyworker test client"


@pytest.fixture
def host() -> Iterator[RabbitmqHost]:
    """A virtual host for each test: the server goes on listing connections for a moment after they were closed."""
    with RabbitmqHost() as opened:
        opened.add_user(USER)
        yield opened


@pytest.fixture(scope="module")
def results() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


def trusting(host: RabbitmqHost, **more: Any) -> dict[str, Any]:
    return {"ca_certs": host.certificate("ca"), "cert_reqs": int(ssl.CERT_REQUIRED), **more}


def with_certificate(host: RabbitmqHost) -> dict[str, Any]:
    return trusting(host, certfile=host.certificate("client"), keyfile=host.key("client"))


def settings_of(way: str, host: RabbitmqHost, results: RedisServer) -> dict[str, Any]:
    """Return the settings of one way in."""
    ways: dict[str, dict[str, Any]] = {
        "amqps": {"broker_url": host.tls_url(), "broker_use_ssl": trusting(host, server_hostname="localhost")},
        "amqp and broker_use_ssl": {
            "broker_url": host.tls_url().replace("amqps://", "amqp://"),
            "broker_use_ssl": {"context": {"cafile": host.certificate("ca")}},
        },
        "EXTERNAL": {
            "broker_url": host.tls_url(login=""),
            "broker_use_ssl": with_certificate(host),
            "broker_login_method": "EXTERNAL",
        },
        "AMQPLAIN": {"broker_url": host.url, "broker_login_method": "AMQPLAIN"},
        "failover": {
            # Nobody listens on the first one.
            "broker_url": f"{host.tls_url(host='127.0.0.2')};{host.tls_url(host='127.0.0.1')}",
            "broker_use_ssl": trusting(host),
        },
    }
    queue = way.replace(" ", "-")
    return {**ways[way], "result_backend": results.url, "task_default_queue": queue}


def connection_of(host: RabbitmqHost, name_starts: str) -> dict[str, Any]:
    """Return what the server says about the connection of a client that calls itself so."""
    for connection in host.node.manage("GET", "connections"):
        name = str(connection.get("client_properties", {}).get("connection_name", ""))
        if connection.get("vhost") == host.name and name.startswith(name_starts):
            found: dict[str, Any] = connection
            return found
    raise AssertionError(f"no connection of {name_starts}")


@pytest.mark.parametrize(
    ("library", "way"),
    [
        ("celery", "amqps"),
        ("pyworker", "amqp and broker_use_ssl"),
        ("pyworker", "EXTERNAL"),
        ("celery", "AMQPLAIN"),
        ("pyworker", "failover"),
    ],
)
def test_tasks_run_by_every_way_in(library: str, way: str, host: RabbitmqHost, results: RedisServer) -> None:
    settings = settings_of(way, host, results)
    names = connected_client(library, settings)
    with connected_worker(library, settings) as worker:
        sent = [names.add.delay(number, 1) for number in range(50)]
        assert [result.get(timeout=60) for result in sent] == list(range(1, 51))
        # The server lists a connection a moment after it was opened.
        told = eventually(lambda: connection_of(host, "pyworker "), what="the worker's connection")
        assert told["ssl"] is (way != "AMQPLAIN")
        assert told["auth_mechanism"] == (way if way in ("EXTERNAL", "AMQPLAIN") else "PLAIN")
        assert told["user"] == (USER if way == "EXTERNAL" else "guest")
        assert worker.stop() == 0
    names.app.close()


def test_celerys_own_worker_and_ours_take_each_others_tasks_over_tls(host: RabbitmqHost, results: RedisServer) -> None:
    settings = settings_of("EXTERNAL", host, results)
    ours, stock = connected_client("pyworker", settings), connected_client("celery", settings)
    for kind, client in ((STOCK, ours), (WORKER, stock)):
        with connected_worker("celery", settings, kind=kind):
            assert client.add.delay(2, 3).get(timeout=60) == 5
    ours.app.close()
    stock.app.close()


@pytest.mark.parametrize(
    ("use_ssl", "url_host", "complaint"),
    [
        ({"ca_certs": "stranger"}, "localhost", "UnknownIssuer"),
        ({"ca_certs": "ca", "server_hostname": "elsewhere.test"}, "localhost", "NotValidForName|not valid for name"),
        ({"ca_certs": "missing"}, "localhost", "ca_certs"),
    ],
)
def test_a_server_that_is_not_trusted_is_refused(
    use_ssl: dict[str, Any], url_host: str, complaint: str, host: RabbitmqHost
) -> None:
    given = {**use_ssl, "ca_certs": host.certificate(use_ssl["ca_certs"])}
    app = Celery("refused", broker=host.tls_url(host=url_host), set_as_current=False)
    app.conf.update(broker_use_ssl=given, task_publish_retry=False)

    @app.task(name="refused.task")
    def task() -> None:
        """Never sent."""

    with pytest.raises(OperationalError, match=complaint):
        task.delay()
    app.close()


def test_a_password_may_be_asked_for_at_each_connection(host: RabbitmqHost) -> None:
    asked = []

    def password() -> str:
        asked.append(True)
        return "guest"

    app = StockCelery("asked", set_as_current=False)
    app.conf.update(
        broker_url=f"amqp://guest@127.0.0.1:{host.node.port}/{host.name}",
        broker_password=password,
        task_default_queue="asked",
    )
    publisher = AmqpPublisher(list(amqp_broker(app, "host").addresses))
    publisher.declare([DeclareQueue(name="asked")])
    assert asked
    assert host.queue("asked")
    publisher.close()
    app.close()


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"ciphers": "HIGH"}, "ciphers is not supported"),
        ({"cert_reqs": "required"}, "cert_reqs must be a constant of ssl"),
        ({"ca_certs": 5}, "ca_certs must be a path"),
        ({"ssl_version": int(ssl.PROTOCOL_TLS_SERVER)}, "ssl_version"),
        ({"cert_reqs": 0, "server_hostname": "a"}, "server_hostname cannot be checked"),
        ({"context": {"cafile": "x"}, "certfile": "y"}, "certfile cannot stand beside context"),
        ({"context": {"verify": 1}}, "context: verify is not supported"),
        ({"tls_minimum_version": "new"}, "tls_minimum_version"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"broker_use_ssl: .*{complaint}|broker_use_ssl: {complaint}"):
        amqp_tls(given)


@pytest.mark.parametrize(
    ("given", "verify", "checks_name", "name"),
    [
        (True, True, False, None),
        ({"cert_reqs": 0}, False, False, None),
        ({"server_hostname": None}, True, True, None),
        ({"server_hostname": "broker"}, True, True, "broker"),
        ({"context": {"check_hostname": True}, "server_hostname": "broker"}, True, True, "broker"),
    ],
)
def test_what_is_checked_follows_py_amqp(given: Any, verify: bool, checks_name: bool, name: str | None) -> None:
    settings = amqp_tls(given)
    assert settings is not None
    assert (settings.verify, settings.check_hostname, settings.server_name) == (verify, checks_name, name)


def test_no_tls_without_a_word_on_it() -> None:
    assert amqp_tls(False) is None
    assert amqp_tls(None) is None
