"""Keeps one RabbitMQ node while the processes of a test run live. Run as a program, imported for the server's place.

The directory given holds ``users/<pid>`` of everybody who needs the node; ``node.json`` appears when it is up.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
import urllib.request
from pathlib import Path

from pyworker.bench.rabbitmq_server import RabbitmqServer
from support.certificates import Certificates
from support.ports import free_port
from support.rabbitmq_server import ONE_SCHEDULER

START_S = 230.0


class Keeper:
    """The node and its directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.management_port, self.tls_port = free_port(), free_port()
        certificates = Certificates(directory / "certificates")
        self.server = RabbitmqServer(
            directory=directory,
            plugins=("rabbitmq_management", "rabbitmq_auth_mechanism_ssl"),
            erlang_arguments=ONE_SCHEDULER,
            settings=(
                f"management.tcp.port = {self.management_port}\nmanagement.tcp.ip = 127.0.0.1\n"
                "collect_statistics_interval = 500\n"
                f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}\n"
                f"ssl_options.cacertfile = {certificates.path('ca')}\n"
                f"ssl_options.certfile = {certificates.path('server')}\n"
                f"ssl_options.keyfile = {certificates.key('server')}\n"
                "ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = false\n"
                "ssl_cert_login_from = common_name\n"
                "auth_mechanisms.1 = PLAIN\nauth_mechanisms.2 = AMQPLAIN\nauth_mechanisms.3 = EXTERNAL\n"
            ),
        )

    def start(self) -> None:
        """Start the node and wait until the management interface answers."""
        self.server.start()
        deadline = time.monotonic() + START_S
        pause = threading.Event()
        while not self._answers():
            if time.monotonic() > deadline:
                raise RuntimeError("the RabbitMQ node's management interface did not come up")
            pause.wait(0.1)
        described = {
            "port": self.server.port,
            "tls_port": self.tls_port,
            "management_port": self.management_port,
            "pid": self.server.pid,
            "certificates": str(self.directory / "certificates"),
        }
        (self.directory / "node.json.new").write_text(json.dumps(described))
        (self.directory / "node.json.new").rename(self.directory / "node.json")

    def _answers(self) -> bool:
        # The list of plugins' listeners needs no password and is there last.
        try:
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
        """End everything; what tells of a failure stays."""
        self.server.stop()
        if not (self.directory / "failed").exists():
            shutil.rmtree(self.directory, ignore_errors=True)


def main() -> None:
    """Keep a node in the directory given."""
    if os.fork():
        os._exit(0)
    os.setsid()
    for descriptor in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
    directory = Path(sys.argv[1])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        keeper = Keeper(directory)
    except Exception as error:
        (directory / "failed").write_text(repr(error))
        raise
    try:
        try:
            keeper.start()
        except Exception as error:
            (directory / "failed").write_text(repr(error))
            raise
        keeper.wait_until_unused()
    finally:
        keeper.stop()


if __name__ == "__main__":
    main()
