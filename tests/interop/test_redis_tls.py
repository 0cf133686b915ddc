"""TLS to broker and result store, in every spelling: same servers, same tasks, same results as Celery's own."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.certificates import Certificates
from support.connected import connected_client, connected_worker
from support.redis_kinds import TlsRedisServer
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::PendingDeprecationWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(Path(tmp_path_factory.mktemp("certificates")))


@pytest.fixture(scope="module")
def server(certificates: Certificates) -> Iterator[TlsRedisServer]:
    """A server that wants clients' certificates and a password."""
    with TlsRedisServer(certificates, wants_client=True, requirepass="secret") as running:
        yield running


def in_url(server: TlsRedisServer, certificates: Certificates) -> dict[str, Any]:
    return {"broker_url": server.url, "result_backend": server.url}


def in_settings(server: TlsRedisServer, certificates: Certificates) -> dict[str, Any]:
    ssl = {
        "ssl_cert_reqs": "required",
        "ssl_ca_certs": certificates.path("ca"),
        "ssl_certfile": certificates.path("client"),
        "ssl_keyfile": certificates.key("client"),
        "ssl_check_hostname": True,
    }
    url = f"rediss://:secret@localhost:{server.port}/1"
    return {"broker_url": url, "broker_use_ssl": ssl, "result_backend": url, "redis_backend_use_ssl": ssl}


@pytest.mark.parametrize(("library", "spelled"), [("celery", in_url), ("pyworker", in_settings)])
def test_tasks_run_over_tls(library: str, spelled: Any, server: TlsRedisServer, certificates: Certificates) -> None:
    settings = spelled(server, certificates)
    names = connected_client(library, settings)
    with connected_worker(library, settings) as worker:
        results = [names.add.delay(number, 1) for number in range(300)]
        assert [result.get(timeout=60) for result in results] == list(range(1, 301))
        # A large message and result cross many TLS records.
        big = "x" * 3_000_000
        assert names.add.delay(big, "y").get(timeout=60) == big + "y"
        # The native connections are among the encrypted ones: nothing else is listening.
        server.client.client_kill_filter(_type="normal", skipme=True)
        assert names.add.delay(1, 1).get(timeout=60) == 2
        assert not [line for line in worker.lines if "Traceback" in line]
    names.app.close()


def refused_because(worker: Any, text: str) -> None:
    """Wait until a worker has said why it cannot connect."""
    eventually(lambda: any(text in line for line in worker.lines), deadline_s=40, what=f"the worker says {text!r}")


@pytest.mark.parametrize(
    ("certificate", "changes", "text"),
    [
        ("server", {"ssl_ca_certs": "stranger"}, "invalid peer certificate: UnknownIssuer"),
        ("elsewhere", {"ssl_check_hostname": "true"}, "not valid for name"),
    ],
)
def test_a_server_that_cannot_be_trusted_is_refused(
    certificate: str, changes: dict[str, str], text: str, certificates: Certificates
) -> None:
    resolved = {name: certificates.path(value) if value == "stranger" else value for name, value in changes.items()}
    with TlsRedisServer(certificates, certificate) as other:
        url = f"rediss://127.0.0.1:{other.port}/0?{other.query(**resolved)}"
        worker = connected_worker("pyworker", {"broker_url": url, "result_backend": None})
        with contextlib.closing(worker):
            worker.start(is_ready=False)
            refused_because(worker, text)
            worker.kill()


@pytest.mark.parametrize(
    ("certificate", "parameters"),
    [
        ("elsewhere", {"ssl_cert_reqs": "none"}),
        ("elsewhere", {"ssl_cert_reqs": "required", "ssl_ca_certs": "ca", "ssl_check_hostname": False}),
        ("alone", {"ssl_cert_reqs": "required", "ssl_ca_certs": "alone"}),
        ("alone", {"ssl_cert_reqs": "optional", "ssl_ca_certs": "alone", "ssl_min_version": 0x0304}),
    ],
)
def test_our_publisher_believes_what_redis_py_believes(
    certificate: str, parameters: dict[str, Any], certificates: Certificates
) -> None:
    resolved = {
        name: certificates.path(value) if name == "ssl_ca_certs" else value for name, value in parameters.items()
    }
    with TlsRedisServer(certificates, certificate) as other:
        url = f"rediss://127.0.0.1:{other.port}/0"
        settings = {
            "broker_url": url, "broker_use_ssl": resolved, "result_backend": url, "redis_backend_use_ssl": resolved,
        }  # fmt: skip
        names = connected_client("pyworker", settings)
        # The result store's client is redis-py, with the same parameters.
        assert names.app.backend.client.ping()
        result = names.add.delay(1, 2)
        assert other.client.llen("celery") == 1
        assert result.state == "PENDING"
        names.app.close()


def test_a_missing_file_is_named(certificates: Certificates) -> None:
    settings = {"broker_url": "rediss://127.0.0.1:1/0", "broker_use_ssl": {"ssl_ca_certs": "/nowhere/ca.pem"}}
    names = connected_client("pyworker", settings | {"task_publish_retry": False, "result_backend": None})
    # The port is looked at first; a server must be there.
    with TlsRedisServer(certificates) as other:
        names.app.conf.broker_url = f"rediss://127.0.0.1:{other.port}/0"
        with pytest.raises(Exception, match=r"ssl_ca_certs: /nowhere/ca\.pem"):
            names.add.delay(1, 2)
    names.app.close()


def test_plain_and_encrypted_do_not_hang_together(certificates: Certificates) -> None:
    with TlsRedisServer(certificates) as other:
        settings = {"broker_url": f"redis://127.0.0.1:{other.port}/0", "result_backend": None}
        names = connected_client("pyworker", settings | {"task_publish_retry": False})
        with pytest.raises(Exception, match=r"redis closed the connection|reset"):
            names.add.delay(1, 2)
        names.app.close()
