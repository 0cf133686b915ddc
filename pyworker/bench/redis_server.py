"""A private Redis server on a free port of the loopback address, gone with its process."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING

import redis

from pyworker.bench.errors import BenchError

if TYPE_CHECKING:
    from types import TracebackType

_START_DEADLINE_S = 10.0
_STOP_DEADLINE_S = 10.0
_ATTEMPTS = 5


def find_server() -> str | None:
    """Return the path of a Redis-compatible server program, if there is one."""
    for name in ("redis-server", "valkey-server"):
        path = shutil.which(name) or shutil.which(name, path="/usr/local/bin:/usr/bin:/usr/sbin:/opt/homebrew/bin")
        if path:
            return path
    return None


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class RedisServer:
    """Starts the server on entry and stops it on exit; nothing is kept on disk afterwards."""

    def __init__(self, *extra_arguments: str) -> None:
        self._extra_arguments = extra_arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._directory = ""
        self.port = 0

    def url(self, database: int = 0, *, port: int | None = None) -> str:
        """Return the server's URL, or that of a proxy before it on ``port``."""
        return f"redis://127.0.0.1:{port or self.port}/{database}"

    def __enter__(self) -> RedisServer:
        program = find_server()
        if program is None:
            raise BenchError(
                "no redis-server on this machine: install it (Debian: apt-get install redis-server) "
                "or name a running one with --broker redis://host:port/0"
            )
        self._directory = tempfile.mkdtemp(prefix="pyworker-redis-")
        for _attempt in range(_ATTEMPTS):  # the free port may be taken by somebody else before the server binds it
            self.port = free_port()
            if self._start(program):
                return self
        self._remove_directory()
        raise BenchError(f"{program} does not start; its log:\n{self._log_tail()}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the server; legal at any time and more than once."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(_STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._remove_directory()

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._process is None:
            raise BenchError("the Redis server is not running")
        return self._process.pid

    def _start(self, program: str) -> bool:
        self._process = subprocess.Popen(
            [
                program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                "--dir", self._directory, "--logfile", os.path.join(self._directory, "redis.log"),
                *self._extra_arguments,
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            # Ctrl-C goes to the bench, which stops the server after it has stopped the workers.
            start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + _START_DEADLINE_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return False
            with contextlib.suppress(redis.ConnectionError), redis.Redis(port=self.port) as client:
                client.ping()
                return True
            time.sleep(0.01)
        self._process.kill()
        self._process.wait()
        return False

    def _log_tail(self) -> str:
        with contextlib.suppress(OSError), open(os.path.join(self._directory, "redis.log")) as file:
            return file.read()[-2000:]
        return "(empty)"

    def _remove_directory(self) -> None:
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = ""
