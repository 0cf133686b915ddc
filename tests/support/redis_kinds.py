"""Private Redis servers of other kinds: with TLS, and groups that Sentinel watches."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import redis
from redis.sentinel import MasterNotFoundError, Sentinel

from support.ports import free_port
from support.programs import program
from support.redis_server import RedisServer
from support.waiting import eventually

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from support.certificates import Certificates


class TlsRedisServer(RedisServer):
    """A server that speaks TLS alone.

    Args:
        certificates: where its files are.
        certificate: the name of its own.
        wants_client: refuses clients without a certificate of ours.
    """

    def __init__(
        self, certificates: Certificates, certificate: str = "server", *, wants_client: bool = False, **options: str
    ) -> None:
        files = {
            "port": "0",
            "tls-cert-file": certificates.path(certificate),
            "tls-key-file": certificates.key(certificate),
            "tls-ca-cert-file": certificates.path("ca"),
            "tls-auth-clients": "yes" if wants_client else "no",
        }
        super().__init__(**files, **options)
        self._options["tls-port"] = str(self.port)
        self._certificates = certificates

    def url_with(self, password: str, database: int = 0) -> str:
        """Return the address, with our authority and no check of the host's name."""
        login = f":{password}@" if password else ""
        return f"rediss://{login}127.0.0.1:{self.port}/{database}?{self.query()}"

    def query(self, **changes: str) -> str:
        """Return the ``ssl_*`` query parameters of a URL that is let in."""
        parameters = {
            "ssl_cert_reqs": "required",
            "ssl_ca_certs": self._certificates.path("ca"),
            "ssl_certfile": self._certificates.path("client"),
            "ssl_keyfile": self._certificates.key("client"),
        }
        return "&".join(f"{name}={quote(value)}" for name, value in (parameters | changes).items())

    @property
    def client(self) -> Any:
        """A connected client of the tests that believes any certificate."""
        if self._client is None:
            self._client = redis.Redis(
                port=self.port, password=self.password or None, ssl=True, ssl_cert_reqs="none",
                ssl_certfile=self._certificates.path("client"), ssl_keyfile=self._certificates.key("client"),
                decode_responses=True, encoding_errors="surrogateescape", socket_timeout=30,
            )  # fmt: skip
        return self._client


class SentinelGroup:
    """A primary, a replica and three Sentinels that watch them; failover within a second or two of a death."""

    NAME = "pyworker-test"

    def __init__(self, **options: str) -> None:
        options.setdefault("repl_diskless_sync_delay", "0")
        self.primary = RedisServer(**options)
        self.replica = RedisServer(replica_of=self.primary, **options)
        self.ports = [free_port() for _ in range(3)]
        self._directory = Path(tempfile.mkdtemp(prefix="pyworker-sentinel-"))
        self._sentinel = ""
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        """The URL of all three, as kombu and Celery take it."""
        return ";".join(f"sentinel://127.0.0.1:{port}/0" for port in self.ports)

    @property
    def options(self) -> dict[str, Any]:
        """What the transport options need beside the URL."""
        return {"master_name": self.NAME}

    @property
    def watchers(self) -> Sentinel:
        """redis-py's view of the group."""
        return Sentinel([("127.0.0.1", port) for port in self.ports], socket_timeout=5)  # type: ignore[no-untyped-call]

    def primary_port(self) -> int:
        """The port of the server that is primary now, 0 while the Sentinels agree on none."""
        try:
            return int(self.watchers.discover_master(self.NAME)[1])  # type: ignore[no-untyped-call]
        except MasterNotFoundError:
            return 0

    def client(self) -> Any:
        """A client of whichever server is the primary at each connection."""
        return self.watchers.master_for(self.NAME, decode_responses=True, socket_timeout=5)  # type: ignore[no-untyped-call]

    def start(self) -> Self:
        """Start everything and return when the Sentinels know each other and the replica is in step."""
        self._sentinel = program("redis-sentinel", "valkey-sentinel")
        self.primary.start()
        self.replica.start()
        eventually(
            lambda: self.replica.client.info("replication")["master_link_status"] == "up", what="replica in step"
        )
        for port in self.ports:
            self._start_sentinel(port)
        eventually(self._is_complete, deadline_s=60, what="the Sentinels know each other")
        return self

    def _start_sentinel(self, port: int) -> None:
        file = self._directory / f"{port}.conf"
        file.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {self._directory}\nlogfile {self._directory / f'{port}.log'}\n"
            f"sentinel monitor {self.NAME} 127.0.0.1 {self.primary.port} 2\n"
            f"sentinel down-after-milliseconds {self.NAME} 1000\n"
            f"sentinel failover-timeout {self.NAME} 6000\n"
        )
        self._processes.append(
            subprocess.Popen([self._sentinel, str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )

    def _is_complete(self) -> bool:
        for port in self.ports:
            with contextlib.closing(redis.Redis(port=port, decode_responses=True, socket_timeout=5)) as client:
                try:
                    state = client.sentinel_master(self.NAME)
                except redis.RedisError:
                    return False
                if state["num-other-sentinels"] != 2 or state["num-slaves"] != 1:
                    return False
        return True

    def close(self) -> None:
        """Stop everything and remove its files."""
        for process in self._processes:
            process.kill()
            process.wait(timeout=30)
        self.replica.close()
        self.primary.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
