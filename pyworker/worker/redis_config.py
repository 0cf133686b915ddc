"""The parts of a Redis address beyond host and port, as the native side reads them.

Field names equal the Rust structs in ``native/src/net/settings.rs``, where each is documented.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyworker.worker.config import RedisAddress


@dataclass(frozen=True, kw_only=True)
class TlsSettings:
    """TLS as the parameters of redis-py and py-amqp describe it."""

    verify: bool = True
    check_hostname: bool = True
    ca_file: str | None = None
    ca_path: str | None = None
    ca_data: bytes | None = None
    cert_file: str | None = None
    key_file: str | None = None
    #: The name that the server's certificate has to bear, where it is not the host's.
    server_name: str | None = None
    only_tls13: bool = False


@dataclass(frozen=True, kw_only=True)
class SentinelSettings:
    """A group of servers that Sentinel watches."""

    nodes: tuple[RedisAddress, ...]
    master_name: str
    min_other_sentinels: int = 0


@dataclass(frozen=True)
class CredentialSource:
    """Asks a ``redis.CredentialProvider`` at each connection."""

    provider: Any

    def __call__(self) -> tuple[str | None, str | None]:
        """Return user and password as they are now."""
        given = tuple(self.provider.get_credentials())
        if len(given) == 1:
            return None, given[0]
        return given[0] or None, given[1]
