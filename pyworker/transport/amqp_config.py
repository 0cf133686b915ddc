"""RabbitMQ in the engine's configuration; field names equal the Rust structs in ``native/src/config/amqp.rs``.

Arguments of declarations are JSON objects as bytes, empty for none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from pyworker.worker.config import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyworker.worker.redis_config import TlsSettings


@dataclass(frozen=True)
class PasswordSource:
    """Asks for the password at each connection (``broker_password`` as a callable)."""

    username: str
    password: Callable[[], str]

    def __call__(self) -> tuple[str, str]:
        """Return user and password as they are now."""
        return self.username, self.password()


@dataclass(frozen=True, kw_only=True)
class AmqpAddress:
    """One server of the failover list."""

    host: str = "127.0.0.1"
    port: int = 5672
    virtual_host: str = "/"
    username: str = "guest"
    password: str = field(default="guest", repr=False)
    login_method: str = "PLAIN"
    connect_timeout_s: float = 4.0
    #: Wanted heartbeat in seconds; 0 is off.
    heartbeat_s: int = 120
    connection_name: str = ""
    tls: TlsSettings | None = None
    #: Gives user and password at each connection, instead of those above.
    credential_source: PasswordSource | None = None


@dataclass(frozen=True, kw_only=True)
class AmqpQueue:
    """A queue to consume from."""

    name: str
    no_ack: bool = False
    arguments: bytes = b""
    #: The last words of the key under which the delay levels lead back to it; ``None`` holds every ETA here.
    delay_key: str | None = None


@dataclass(frozen=True, kw_only=True)
class DeclareExchange:
    """An exchange."""

    kind: ClassVar[str] = "exchange"
    name: str
    type: str = "direct"
    passive: bool = False
    durable: bool = True
    auto_delete: bool = False
    arguments: bytes = b""


@dataclass(frozen=True, kw_only=True)
class DeclareQueue:
    """A queue."""

    kind: ClassVar[str] = "queue"
    name: str
    passive: bool = False
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    arguments: bytes = b""


@dataclass(frozen=True, kw_only=True)
class BindQueue:
    """A queue's binding."""

    kind: ClassVar[str] = "queue_binding"
    queue: str
    exchange: str
    routing_key: str = ""
    arguments: bytes = b""


@dataclass(frozen=True, kw_only=True)
class BindExchange:
    """An exchange's binding."""

    kind: ClassVar[str] = "exchange_binding"
    destination: str
    source: str
    routing_key: str = ""
    arguments: bytes = b""


Declaration = DeclareExchange | DeclareQueue | BindQueue | BindExchange


@dataclass(frozen=True, kw_only=True)
class AmqpResultConfig:
    """Results as messages to the reply queues of clients."""

    addresses: tuple[AmqpAddress, ...]
    retry: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(frozen=True, kw_only=True)
class AmqpBrokerConfig:
    """RabbitMQ as the broker."""

    kind: ClassVar[str] = "amqp"
    addresses: tuple[AmqpAddress, ...]
    queues: tuple[AmqpQueue, ...]
    #: Declared on every connection before consuming.
    declarations: tuple[Declaration, ...] = ()
    #: The delay levels, declared when the first message is parked there.
    delay_declarations: tuple[Declaration, ...] = ()
    #: Whether a failover list is used in random order instead of its own.
    shuffle: bool = False
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    max_message_bytes: int = 512 * 1024 * 1024
