"""A private RabbitMQ node on free ports of the loopback address, gone with its process."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pyworker.bench.errors import BenchError
from pyworker.bench.redis_server import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from typing_extensions import Self

#: Debian's ``rabbitmq-server`` command insists on an account of its own; this is the program behind it.
PROGRAM = "/usr/lib/rabbitmq/bin/rabbitmq-server"
_START_DEADLINE_S = 240.0
_LOG_TAIL = 2000
_STOP_DEADLINE_S = 120.0
_POLL_S = 0.05
#: What a node logs at the end of its start.
_STARTED = "Server startup complete"
_SETTINGS = "disk_free_limit.absolute = 1MB\nloopback_users = none\nlog.console = false\n"
#: Processors that wait busily would be missing to worker and client on the same machine.
_NO_BUSY_WAITING = "+sbwt none +sbwtdcpu none +sbwtdio none -start_epmd false"


class RabbitmqServer:
    """A node with a port mapper of its own; nothing is kept on disk after ``stop``.

    Args:
        settings: further lines of ``rabbitmq.conf``.
        plugins: plugins to enable.
        erlang_arguments: further arguments of the virtual machine.
        directory: where its files are; one of its own by default, which is deleted at the end.
    """

    def __init__(
        self,
        *,
        settings: str = "",
        plugins: Sequence[str] = (),
        erlang_arguments: str = "",
        directory: Path | None = None,
    ) -> None:
        self._settings = _SETTINGS + settings
        self._plugins = plugins
        self._erlang_arguments = erlang_arguments
        self._owns_directory = directory is None
        self._directory = directory
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.port, self._mapper_port, self._node_port = (free_port() for _ in range(3))

    def url(self, virtual_host: str = "/") -> str:
        """Return the node's URL."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{virtual_host}"

    @property
    def pid(self) -> int:
        """Process id of the running node, which is also the id of its process group."""
        return self._processes["node"].pid

    @property
    def directory(self) -> Path:
        """Where configuration, data and logs are."""
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="pyworker-rabbitmq-"))
        return self._directory

    def start(self) -> Self:
        """Start port mapper and node; returns when its start is complete.

        A node lets clients in a moment earlier, but takes its own queues for down: it deletes one by force, and does
        not tell the consumers.

        Raises:
            BenchError: there is no server on this machine, or it does not come up.
        """
        if not Path(PROGRAM).exists():
            raise BenchError(f"no {PROGRAM} on this machine: install it (Debian: apt-get install rabbitmq-server)")
        (self.directory / "rabbitmq.conf").write_text(self._settings)
        (self.directory / "enabled_plugins").write_text(f"[{','.join(self._plugins)}].")
        self._spawn("mapper", ["epmd", "-port", str(self._mapper_port), "-address", "127.0.0.1"])
        self.start_node()
        self._wait_until(lambda: _STARTED in self._log())
        return self

    def start_node(self) -> None:
        """Start the node alone, again after ``stop_node`` or ``kill_node``; returns when clients are let in.

        Raises:
            BenchError: it does not come up.
        """
        self._spawn("node", [PROGRAM])
        self._wait_until(self._lets_in)

    def _wait_until(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START_DEADLINE_S
        while not is_so():
            if time.monotonic() > deadline or self._processes["node"].poll() is not None:
                raise BenchError(f"the RabbitMQ node does not come up; its log:\n{self._log()[-_LOG_TAIL:]}")
            time.sleep(_POLL_S)

    def stop_node(self) -> None:
        """Stop the node as an operator does.

        Raises:
            BenchError: it does not end.
        """
        node = self._processes["node"]
        node.terminate()
        try:
            node.wait(_STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise BenchError(f"the RabbitMQ node does not end; its log:\n{self._log()[-_LOG_TAIL:]}") from None
        self._kill("node")

    def kill_node(self) -> None:
        """Kill the node as a crash does; what is durable is there when it starts again."""
        self._kill("node")

    def stop(self) -> None:
        """End everything; legal at any time and more than once."""
        for name in ("node", "mapper"):
            self._kill(name)
        if self._owns_directory and self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    @property
    def node_name(self) -> str:
        """The node's name in Erlang's network."""
        return f"pyworker{self.port}@localhost"

    def environment(self) -> dict[str, str]:
        """Return the environment of the node's processes, and of those that talk to it."""
        directory = self.directory
        return {
            **os.environ,
            "HOME": str(directory),
            "RABBITMQ_NODENAME": self.node_name,
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._node_port),
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(directory),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(directory / "pid"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{self._erlang_arguments} {_NO_BUSY_WAITING}".strip(),
        }

    def _spawn(self, name: str, command: list[str]) -> None:
        self._processes[name] = subprocess.Popen(
            command, env=self.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            # Erlang has helpers of its own: they are in this process group.
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def _kill(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _lets_in(self) -> bool:
        """Whether it answers a client."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as client:
                client.sendall(b"AMQP\x00\x00\x09\x01")
                return bool(client.recv(1))
        except OSError:
            return False

    def _log(self) -> str:
        logs = sorted(self.directory.glob("*.log"))
        return logs[0].read_text(errors="replace") if logs else "(empty)"

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
