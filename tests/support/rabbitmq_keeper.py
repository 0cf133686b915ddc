"""Keeps one RabbitMQ node while the processes of a test run live. Run as a program, never imported.

The directory given holds ``users/<pid>`` of everybody who needs the node; ``node.json`` appears when it is up.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"
START_S = 230.0


def free_port() -> int:
    """Return a port nobody listens on now, never RabbitMQ's own."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in (4369, 5671, 5672, 15672, 25672):
            return port


class Keeper:
    """The node, its port mapper and their directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port, self.management_port, self.mapper_port, self.node_port = (free_port() for _ in range(4))
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start both and wait until the management interface answers."""
        if not Path(SERVER).exists():
            raise RuntimeError("rabbitmq-server is not installed (scripts/install_rabbitmq)")
        (self.directory / "enabled_plugins").write_text("[rabbitmq_management].")
        (self.directory / "rabbitmq.conf").write_text(
            "disk_free_limit.absolute = 1MB\nloopback_users = none\nlog.console = false\n"
            f"management.tcp.port = {self.management_port}\nmanagement.tcp.ip = 127.0.0.1\n"
            "collect_statistics_interval = 500\n"
        )
        environment = {
            **os.environ,
            "HOME": str(self.directory),
            "RABBITMQ_NODENAME": f"pyworker{self.port}@localhost",
            "ERL_EPMD_PORT": str(self.mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.node_port),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.directory),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(self.directory / "pid"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            # One scheduler that sleeps when idle: the tests need the processors themselves.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none -start_epmd false",
        }
        for command in (["epmd", "-port", str(self.mapper_port), "-address", "127.0.0.1"], [SERVER]):
            self.processes.append(
                subprocess.Popen(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )
        deadline = time.monotonic() + START_S
        pause = threading.Event()
        while not self._answers():
            if time.monotonic() > deadline or self.processes[-1].poll() is not None:
                raise RuntimeError("the RabbitMQ node did not come up")
            pause.wait(0.1)
        described = {"port": self.port, "management_port": self.management_port, "pid": self.processes[-1].pid}
        (self.directory / "node.json.new").write_text(json.dumps(described))
        (self.directory / "node.json.new").rename(self.directory / "node.json")

    def _answers(self) -> bool:
        # The list of plugins' listeners needs no password and is there last.
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                pass
            urllib.request.urlopen(f"http://127.0.0.1:{self.management_port}/", timeout=5).close()
        except OSError:
            return False
        return True

    def wait_until_unused(self) -> None:
        """Return when no process that needs the node lives."""
        pause = threading.Event()
        while any(Path(f"/proc/{user.name}").exists() for user in (self.directory / "users").iterdir()):
            pause.wait(0.5)

    def stop(self) -> None:
        """End everything; Erlang has helpers in the node's process group."""
        for process in reversed(self.processes):
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            process.wait()
        if not (self.directory / "failed").exists():
            shutil.rmtree(self.directory, ignore_errors=True)


def main() -> None:
    """Keep a node in the directory given."""
    if os.fork():
        os._exit(0)
    os.setsid()
    for descriptor in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
    keeper = Keeper(Path(sys.argv[1]))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        try:
            keeper.start()
        except Exception as error:
            (keeper.directory / "failed").write_text(repr(error))
            raise
        keeper.wait_until_unused()
    finally:
        keeper.stop()


if __name__ == "__main__":
    main()
