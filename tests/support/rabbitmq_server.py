"""A private RabbitMQ node, shared by all processes of one test run, and a virtual host of one test on it.

A node takes seconds of processor time to start. The first process of a run that needs one starts it in a session of its
own under a keeper, which ends node and port mapper when the last process of the run is gone, however that ended.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyworker.bench.rabbitmq_server import PROGRAM
from support.programs import program
from support.waiting import eventually

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

_KEEPER = Path(__file__).with_name("rabbitmq_keeper.py")
#: A node's start on a machine under load.
_START_S = 240.0
#: Arguments of Erlang's machine: the tests need the processors themselves.
ONE_SCHEDULER = "+S 1:1"


@dataclass(frozen=True)
class RabbitmqNode:
    """Where a running node is."""

    port: int
    tls_port: int
    management_port: int
    pid: int
    #: Directory of the files of :class:`support.certificates.Certificates`.
    certificates: str

    def manage(self, method: str, path: str, content: Any = None) -> Any:
        """Ask the management interface; returns the decoded answer, None for an empty one."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.management_port}/api/{path}",
            method=method,
            data=None if content is None else json.dumps(content).encode(),
            headers={
                "Authorization": "Basic " + base64.b64encode(b"guest:guest").decode(),
                "Content-Type": "application/json",
            },
        )

        def answered() -> list[bytes]:
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return [answer.read()]
            except urllib.error.HTTPError as error:
                if method == "GET" and error.code == 500:
                    # Of those who ask for a list for the first time at the same moment the server answers one.
                    raise AssertionError(f"{path}: {error}") from error
                raise

        [text] = eventually(answered, deadline_s=60, what="an answer of the management interface")
        return json.loads(text) if text else None


def shared_node() -> RabbitmqNode:
    """Return this run's node, started if need be."""
    program(PROGRAM)
    # All processes of one pytest run have the same parent process or are it.
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or f"single-{os.getpid()}"
    directory = Path(tempfile.gettempdir()) / f"pyworker-rabbitmq-{os.getuid()}-{run}"
    directory.mkdir(exist_ok=True)
    with (directory / "lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        described = directory / "node.json"
        if not described.exists():
            _start(directory)
        (directory / "users").mkdir(exist_ok=True)
        (directory / "users" / str(os.getpid())).touch()
        return RabbitmqNode(**json.loads(described.read_text()))


def _start(directory: Path) -> None:
    (directory / "users").mkdir(exist_ok=True)
    (directory / "users" / str(os.getpid())).touch()
    # It goes to the background by itself: a child of ours could not outlive this process unnoticed.
    subprocess.run(
        [sys.executable, str(_KEEPER), str(directory)],
        env={**os.environ, "PYTHONPATH": str(_KEEPER.parent.parent)},
        stdin=subprocess.DEVNULL,
        check=True,
        timeout=60,
    )

    def is_up() -> bool:
        if (directory / "failed").exists():
            raise RuntimeError((directory / "failed").read_text())
        return (directory / "node.json").exists()

    eventually(is_up, deadline_s=_START_S, what="the RabbitMQ node is up")


class RabbitmqHost:
    """A virtual host of its own on the run's node; deleted at the end."""

    def __init__(self) -> None:
        self.node = shared_node()
        self.name = f"test-{secrets.token_hex(6)}"

    @property
    def url(self) -> str:
        """The address as Celery's ``broker_url`` takes it."""
        return f"amqp://guest:guest@127.0.0.1:{self.node.port}/{self.name}"

    def tls_url(self, login: str = "guest:guest@", host: str = "localhost") -> str:
        """Return the address for TLS."""
        return f"amqps://{login}{host}:{self.node.tls_port}/{self.name}"

    def certificate(self, name: str) -> str:
        """Return a certificate's PEM file; see :class:`support.certificates.Certificates`."""
        return f"{self.node.certificates}/{name}.pem"

    def key(self, name: str) -> str:
        """Return the PEM file of a certificate's key."""
        return f"{self.node.certificates}/{name}.key"

    def start(self) -> Self:
        """Make the virtual host."""
        self.node.manage("PUT", f"vhosts/{self.name}", {})
        self.let_in("guest")
        return self

    def trace(self) -> Self:
        """Have the server repeat everything that is published here (``support.rabbitmq_recording``)."""
        self.node.manage("PUT", f"vhosts/{self.name}", {"tracing": True})
        return self

    def let_in(self, user: str) -> None:
        """Give a user every permission."""
        name = urllib.parse.quote(user, safe="")
        self.node.manage("PUT", f"permissions/{self.name}/{name}", {"configure": ".*", "write": ".*", "read": ".*"})

    def add_user(self, user: str, password: str = "") -> None:
        """Make a user with every permission here."""
        self.node.manage("PUT", f"users/{urllib.parse.quote(user, safe='')}", {"password": password, "tags": ""})
        self.let_in(user)

    def close(self) -> None:
        """Delete the virtual host with everything in it."""
        try:
            self.node.manage("DELETE", f"vhosts/{self.name}")
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise

    def queue(self, name: str) -> dict[str, Any]:
        """Return what the server says about a queue, nothing if there is none; half a second old at most."""
        path = f"queues/{self.name}/{urllib.parse.quote(name, safe='')}"
        try:
            found: dict[str, Any] = self.node.manage("GET", path)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return {}
        # Newer servers name the default type as well.
        if found["arguments"].get("x-queue-type") == "classic":
            del found["arguments"]["x-queue-type"]
        return found

    def waiting(self, name: str = "celery") -> int:
        """Return how many messages are ready in a queue."""
        return int(self.queue(name).get("messages_ready", 0))

    def is_drained(self, name: str = "celery") -> bool:
        """Whether the queue is empty and nothing is held."""
        return self.queue(name).get("messages") == 0

    def connections(self, *, name_starts: str = "") -> list[str]:
        """Return the server's names of the connections to this virtual host, of clients that call themselves so."""
        return [
            connection["name"]
            for connection in self.node.manage("GET", "connections")
            if connection.get("vhost") == self.name
            and str(connection.get("client_properties", {}).get("connection_name", "")).startswith(name_starts)
        ]

    def consuming(self, queue: str = "celery") -> set[str]:
        """Return the server's names of the connections that consume from a queue."""
        return {
            consumer["channel_details"]["connection_name"]
            for consumer in self.node.manage("GET", f"consumers/{self.name}")
            if consumer["queue"]["name"] == queue and "connection_name" in consumer["channel_details"]
        }

    def cut(self, *, name_starts: str = "") -> int:
        """Close connections from the server's side; returns how many."""
        names = self.connections(name_starts=name_starts)
        for name in names:
            try:
                self.node.manage("DELETE", f"connections/{urllib.parse.quote(name, safe='')}")
            except urllib.error.HTTPError as error:
                if error.code != 404:
                    raise
        return len(names)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
