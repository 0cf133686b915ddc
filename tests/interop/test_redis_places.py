"""Unix sockets, alternate URLs and passwords that change: workers and clients of both libraries find the server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.connected import connected_client, connected_worker
from support.ports import free_port
from support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::PendingDeprecationWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


@pytest.fixture(scope="module")
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(Path(tmp_path_factory.mktemp("socket")) / "redis.sock")


@pytest.fixture(scope="module")
def server(socket_path: str) -> Iterator[RedisServer]:
    with RedisServer(unixsocket=socket_path) as running:
        yield running


def test_unix_sockets_and_what_the_worker_is_called(server: RedisServer, socket_path: str) -> None:
    """A real Celery app; kombu and Celery's result store know one spelling."""
    url = f"redis+socket://{socket_path}?virtual_host=5"
    settings = {
        "broker_url": url,
        "result_backend": url,
        "redis_client_name": "results-of-a-test",
        "broker_transport_options": {"client_name": "broker-of-a-test"},
    }
    names = connected_client("celery", settings)
    with connected_worker("celery", settings):
        assert names.add.delay(20, 22).get(timeout=60) == 42
        connections = server.client.client_list()
        # The flag U is a Unix socket's.
        found = {(each["name"], each["db"]) for each in connections if "U" in each["flags"]}
        assert {("broker-of-a-test", "5"), ("results-of-a-test", "5")} <= found
    names.app.close()


def test_alternates_unix_sockets_and_a_changing_password(socket_path: str, tmp_path: Path, server: RedisServer) -> None:
    """An app of ours: the first broker is down, the second is a Unix socket; the store's password changes."""
    password = tmp_path / "password"
    password.write_text("first")
    with RedisServer(requirepass="first") as store:
        settings: dict[str, Any] = {
            "broker_url": [f"redis://127.0.0.1:{free_port()}/0", f"unix://{socket_path}?db=6"],
            "result_backend": f"redis://127.0.0.1:{store.port}/1",
            "redis_backend_credential_provider": "connected.StepProvider",
        }
        environment = {"TEST_PASSWORD_FILE": str(password)}
        with pytest.MonkeyPatch.context() as patch, connected_worker("pyworker", settings, environment=environment):
            patch.setenv("TEST_PASSWORD_FILE", str(password))
            names = connected_client("pyworker", settings)
            assert names.add.delay(1, 2).get(timeout=60) == 3
            # What the worker answers goes over kombu's own connection.
            store.client.config_set("requirepass", "second")
            password.write_text("second")
            store.client.client_kill_filter(_type="normal", skipme=True)
            assert names.add.delay(2, 3).get(timeout=60) == 5
            names.app.close()
        store.password = "second"
