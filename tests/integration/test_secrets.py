"""Passwords stay secret: one is planted in every URL, and nothing that anybody reads may show it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING, Any

import pytest

import pyworker
from pyworker.compat import adapt
from pyworker.redacting import redacted, without_password
from pyworker.worker.protocol import WorkerOptions
from support.command_line_runner import run_lines
from support.kinds import Kind
from support.ports import free_port
from support.redis_server import RedisServer
from support.worker import APPS, WorkerProcess, worker_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: No part of it may be seen either: what is taken for a port or a host may be half a password.
PARTS = ("Pl4nted", "S3cret", "W0rd")
PASSWORD = "".join(PARTS)
#: As people write them who do not know that such characters must be quoted.
UNQUOTED = "/".join(PARTS), "@".join(PARTS), ":".join(PARTS), "#".join(PARTS), "?".join(PARTS), f"1/{PASSWORD}"


def assert_secret(text: str, what: str) -> None:
    for part in PARTS:
        assert part not in text, f"{what}: {text[max(0, text.index(part) - 300) : text.index(part) + 60]}"


@pytest.mark.parametrize("password", [PASSWORD, *UNQUOTED])
@pytest.mark.parametrize(
    "form",
    ["redis://:{}@h:1/0", "redis://u:{}@h/0;redis://u:{}@i/0", "sentinel://:{}@a:1;sentinel://:{}@b:2", "amqp://u:{}@h//",
     "amqp://u:{}@h//;u:{}@i//", "redis+socket://:{}@/tmp/s?virtual_host=1", "sqla+postgresql://u:{}@h/db", "sqs://k:{}@",
     "mongodb://u:{}@h,i:2/db?replicaSet=a", "rediss://h/0?ssl_password={}&ssl_cert_reqs=none",
     "azureservicebus://policy:{}@ns", "u:{}@h"],
)  # fmt: skip
def test_urls_are_shown_without_passwords(form: str, password: str) -> None:
    url = form.format(*[password] * form.count("{}"))
    if "ssl_password" in form and password != PASSWORD:
        pytest.skip("a query ends where the next parameter begins")
    assert_secret(without_password(url), "URL")
    if "://" in form:
        assert_secret(redacted(f"cannot reach {url} and ['{url}', \"{url}\"]: refused"), "text")


# -- errors of our own library


def urls(port: int) -> list[str]:
    """Brokers and stores that nobody can reach, or that are no URLs."""
    places = [f"redis://:{PASSWORD}@127.0.0.1:{port}/0", f"redis://u:{PASSWORD}@127.0.0.1:{port}/not-a-number",
              f"redis://:{PASSWORD}@127.0.0.1:{port}/0;redis://:{PASSWORD}@127.0.0.1:{port}/1",
              f"sentinel://:{PASSWORD}@127.0.0.1:{port};sentinel://:{PASSWORD}@127.0.0.1:{port}",
              f"amqp://u:{PASSWORD}@127.0.0.1:{port}//", f"amqp://u:{PASSWORD}@127.0.0.1:{port}//;redis://:{PASSWORD}@h",
              f"redis+socket://:{PASSWORD}@/nowhere/redis.sock", f"rediss://:{PASSWORD}@127.0.0.1:{port}/0?ssl_cert_reqs=odd",
              f"no-such-transport://u:{PASSWORD}@h/0", f"u:{PASSWORD}@h", f"redis:/{PASSWORD}@h"]  # fmt: skip
    places += [f"redis://:{password}@127.0.0.1:{port}/0" for password in UNQUOTED]
    return places + [f"amqp://u:{password}@127.0.0.1:{port}//" for password in UNQUOTED]


def outcome_of(operation: Callable[[], Any]) -> str:
    """What an operation returns, or its whole error as it would be printed and logged."""
    try:
        return repr(operation())
    except Exception as error:
        return "".join(traceback.format_exception(error)) + repr(error) + str(error)


@pytest.mark.parametrize("place", range(len(urls(0))))
def test_errors_do_not_tell(place: int) -> None:
    url = urls(free_port())[place]
    app = pyworker.Celery("planted", broker=url, backend=url, set_as_current=False)
    app.conf.update(
        task_publish_retry=False, broker_connection_timeout=1, broker_connection_max_retries=1,
        broker_transport_options={"master_name": "m", "max_retries": 0, "sentinel_kwargs": {"password": PASSWORD}},
        result_backend_transport_options={"master_name": "m", "retry_policy": {"max_retries": 0}},
        redis_socket_connect_timeout=0.2, broker_password=PASSWORD, redis_password=PASSWORD,
    )  # fmt: skip

    @app.task(name="planted.nothing", shared=False)
    def nothing() -> None: ...

    operations: dict[str, Callable[[], Any]] = {
        "delay": nothing.delay,
        "state": lambda: app.AsyncResult("id").state,
        "backend": lambda: [repr(app.backend), app.backend.as_uri(), repr(vars(app.backend).get("address"))],
        "report": app.bugreport,
        "settings": app.conf.humanize,
        "table": app.conf.table,
        "app": lambda: repr(app),
        "worker": lambda: _configured(app),
    }
    for name, operation in operations.items():
        assert_secret(outcome_of(operation), f"{name} with {without_password(url)}")
    app.close()


def _configured(app: Any) -> list[str]:
    worker = adapt(app)
    options = WorkerOptions(hostname="planted@here", loglevel="CRITICAL", concurrency=1, quiet=False)
    worker._options = options  # type: ignore[attr-defined]
    worker.hostname = "planted@here"
    return [worker.banner(), repr(worker.engine_config())]


# -- commands


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A server that wants the password."""
    with RedisServer(requirepass=PASSWORD) as running:
        yield running


def environment_of(server: RedisServer, library: str) -> dict[str, str]:
    url = server.url_with(PASSWORD)
    return worker_environment(broker=f"{url};{url}", backend=url, lane="fast", extra={"TEST_LIBRARY": library})


@pytest.fixture(params=["pyworker", "celery"])
def worker(request: pytest.FixtureRequest, server: RedisServer) -> Iterator[WorkerProcess]:
    """A worker that says everything, with a list of brokers."""
    environment = environment_of(server, request.param)
    with WorkerProcess(
        Kind(f"pyworker-{request.param}", (sys.executable, "-m", "pyworker"), "fast"), "coded", loglevel="DEBUG",
        broker=environment["TEST_BROKER_URL"], backend=environment["TEST_RESULT_BACKEND"],
        environment={"TEST_LIBRARY": request.param}, options=("-c", "1", "-E"),
    ) as running:  # fmt: skip
        yield running


#: NODE stands for the worker's name: who asks one node does not wait for others.
_COMMANDS = (
    "report", "check", "inspect report -d NODE", "inspect conf -d NODE", "inspect stats --json -d NODE",
    "call coded.echo", "purge -f", "amqp queue.declare planted", "migrate redis://:{}@127.0.0.1:1 redis://:{}@h:x",
    "-b redis://:{}@127.0.0.1:1/0 --result-backend nonsense://:{}@h report", "bench --tasks 1 --backend redis://:{}@h:x",
    "bench --tasks 1 --broker redis://:{}@127.0.0.1:1/0",
)  # fmt: skip


def test_a_worker_and_its_commands_do_not_tell(worker: WorkerProcess, server: RedisServer) -> None:
    """Those that succeed and those that fail; then the worker loses its server."""
    library = "celery" if "celery" in worker.kind.name else "pyworker"
    assert worker.node_name
    lines = [
        ["-A", "coded", *text.replace("{}", PASSWORD).replace("NODE", worker.node_name).split()] for text in _COMMANDS
    ]
    told = run_lines("pyworker", lines, environment=environment_of(server, library), directory=APPS)
    for text, ran in zip(_COMMANDS, told):
        assert_secret(ran.output + ran.errors, text)
    assert '"alternates"' in told[4].output, "the list of brokers is among what is shown"
    assert "**" in told[4].output
    position = worker.mark()
    server.restart()
    worker.wait_for_line(r"[Cc]onnection|[Cc]annot connect|lost", after=position, deadline_s=60)
    worker.send(signal.SIGTERM)
    worker.wait()
    assert_secret(worker.log, f"log of the {library} worker")
    assert "**@" in worker.log, "the banner shows the URL without the password"


@pytest.mark.parametrize("library", ["pyworker", "celery"])
@pytest.mark.parametrize("password", [f"{PASSWORD}-wrong", UNQUOTED[0]])
def test_a_worker_that_cannot_start_does_not_tell(server: RedisServer, library: str, password: str) -> None:
    url = server.url_with(password)
    done = subprocess.run(
        [sys.executable, "-m", "pyworker", "-A", "coded", "worker", "-l", "DEBUG", "-c", "1"],
        env={**os.environ, **environment_of(server, library), "TEST_BROKER_URL": url, "TEST_RESULT_BACKEND": url,
             "TEST_NO_RETRY": "1"},
        cwd=APPS, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert_secret(done.stdout + done.stderr, f"{library} with a {password!r} password")
