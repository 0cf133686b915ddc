"""A private Redis server of one test or module."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis

from support.ports import free_port
from support.programs import program
from support.stock_results import forget_subscriptions
from support.waiting import eventually

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

_running: list[RedisServer] = []


def servers_running() -> list[RedisServer]:
    """Return the servers that run now."""
    return list(_running)


class RedisServer:
    """A ``redis-server`` on a free port with its files in a directory of its own.

    Args:
        options: settings of ``redis.conf`` (underscores become dashes), for example ``maxmemory="20mb"``,
            ``requirepass="secret"``, ``appendonly="yes"``, ``appendfsync="always"``.
        replica_of: makes the server a read-only replica of another one.
    """

    def __init__(self, *, replica_of: RedisServer | None = None, **options: str) -> None:
        self.port = free_port()
        self.password = options.get("requirepass", "")
        self._options = {"save": "", "appendonly": "no"}
        self._options |= {name.replace("_", "-"): value for name, value in options.items()}
        if replica_of is not None:
            self._options["replicaof"] = f"127.0.0.1 {replica_of.port}"
        self._directory = Path(tempfile.mkdtemp(prefix="pyworker-redis-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._client: redis.Redis | None = None

    @property
    def url(self) -> str:
        """The address as Celery's ``broker_url`` takes it."""
        return self.url_with(self.password)

    def url_with(self, password: str, database: int = 0) -> str:
        """Return the address with another password or database."""
        login = f":{password}@" if password else ""
        return f"redis://{login}127.0.0.1:{self.port}/{database}"

    @property
    def client(self) -> Any:
        """A connected client of the tests, answers decoded to ``str`` where they are UTF-8."""
        if self._client is None:
            self._client = redis.Redis.from_url(
                self.url, decode_responses=True, encoding_errors="surrogateescape", socket_timeout=30
            )
        return self._client

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._process is not None, "the server does not run"
        return self._process.pid

    def start(self) -> Self:
        """Start the server and return when it answers."""
        executable = program("redis-server", "valkey-server")
        arguments = [executable, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._directory)]
        for name, value in self._options.items():
            arguments += [f"--{name}", *(value.split(" ") if name == "replicaof" else [value])]
        log = (self._directory / "redis.log").open("ab")
        with log:
            self._process = subprocess.Popen(arguments, stdout=log, stderr=subprocess.STDOUT)
        _running.append(self)
        eventually(self._answers, deadline_s=20, what=f"redis-server on port {self.port} answers")
        return self

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._directory / "redis.log").read_text()
        try:
            return bool(self.client.ping())
        except (redis.ConnectionError, redis.BusyLoadingError):
            return False

    def stop(self, *, kill: bool = False) -> None:
        """Stop the server and wait for its end; its files stay for a later ``start``. Safe to repeat."""
        if self._process is None:
            return
        if kill:
            self._process.kill()
        else:
            self._process.terminate()
        self._process.wait(timeout=30)
        self._process = None
        _running.remove(self)
        if self._client is not None:
            self._client.close()
            self._client = None

    def restart(self, *, kill: bool = True) -> None:
        """Stop and start again on the same port with the same files."""
        self.stop(kill=kill)
        self.start()

    def close(self) -> None:
        """Stop the server and remove its files."""
        forget_subscriptions(self.port)
        self.stop(kill=True)
        shutil.rmtree(self._directory, ignore_errors=True)

    def keys_without_expiry(self) -> set[str]:
        """Names of all keys that would stay for ever."""
        return {name for name in self.client.scan_iter(count=1000) if self.client.ttl(name) == -1}

    def summary(self) -> str:
        """Return what lies in the broker's keys, for failure reports."""
        lines = []
        try:
            for name in sorted(self.client.scan_iter(count=1000)):
                if not name.startswith("celery-task-meta-"):
                    lines.append(f"{name} ({self.client.type(name)}): {self._size_of(name)}")
        except redis.RedisError as error:
            lines.append(f"no answer: {error!r}")
        return "\n".join(lines)

    def _size_of(self, name: str) -> Any:
        kind = self.client.type(name)
        if kind == "zset":
            return self.client.zrange(name, 0, 20, withscores=True)
        if kind == "hash":
            return f"{self.client.hlen(name)} fields, {list(self.client.hgetall(name).items())[:6]}"
        sizes = {"list": self.client.llen, "set": self.client.scard, "string": self.client.strlen}
        return sizes[kind](name) if kind in sizes else "?"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
