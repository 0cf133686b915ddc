"""The engine's configuration as Python builds it; the native side reads these attributes and validates them.

Field names equal the Rust structs in ``native/src/config.rs``, where each is documented.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pyworker.transport.amqp_config import AmqpBrokerConfig, AmqpResultConfig
    from pyworker.worker.kombu_config import KombuBrokerConfig
    from pyworker.worker.redis_config import CredentialSource, SentinelSettings, TlsSettings
    from pyworker.worker.sqlite_config import SqliteBrokerConfig, SqliteResultConfig


class Lane(IntEnum):
    """How a task is run; lanes differ in speed only (docs/lanes.md)."""

    FAST = 0
    LIBRARY = 1
    PARENT = 2


class QueueOrder(Enum):
    """Order in which several queues are read."""

    ROUND_ROBIN = "round_robin"
    PRIORITY = "priority"


@dataclass(frozen=True, kw_only=True)
class RedisAddress:
    """Where and how to reach a Redis server."""

    host: str = "localhost"
    port: int = 6379
    unix_path: str | None = None
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    client_name: str | None = None
    connect_timeout_s: float = 4.0
    socket_timeout_s: float | None = None
    keepalive: bool = True
    health_check_interval_s: float = 25.0
    tls: TlsSettings | None = None
    sentinel: SentinelSettings | None = None
    credential_source: CredentialSource | None = None
    alternates: tuple[RedisAddress, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How long to wait between connection attempts (``broker_connection_*``)."""

    retry: bool = True
    retry_on_startup: bool = True
    max_retries: int | None = 100
    interval_start_s: float = 2.0
    interval_step_s: float = 2.0
    interval_max_s: float = 30.0


@dataclass(frozen=True, kw_only=True)
class RedisBrokerConfig:
    """The Redis broker, in kombu's layout."""

    kind: ClassVar[str] = "redis"
    address: RedisAddress
    queues: tuple[str, ...]
    owner: str
    priority_steps: tuple[int, ...] = (0, 3, 6, 9)
    separator: str = "\x06\x16"
    global_keyprefix: str = ""
    queue_order: QueueOrder = QueueOrder.ROUND_ROBIN
    visibility_timeout_s: float = 3600.0
    unacked_key: str = "unacked"
    unacked_index_key: str = "unacked_index"
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    max_message_bytes: int = 512 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class RedisResultConfig:
    """Results in Redis."""

    address: RedisAddress
    expires_s: int | None = 86400
    retry: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What the engine needs to know of a registered task; its position is its index."""

    name: str
    acks_late: bool = False
    acks_on_failure: bool = True
    soft_time_limit_s: float | None = None
    time_limit_s: float | None = None
    rate_limit_per_s: float | None = None
    parent_lane: bool = False
    watched: bool = False


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """The pool of child processes."""

    concurrency: int
    max_tasks_per_child: int | None = None
    #: Resident memory after which a child is replaced. The child itself looks; the native side does not read this.
    max_memory_per_child_kib: int | None = None
    #: ``worker_proc_alive_timeout``: a child that is not initialised by then is replaced; ``None`` waits for ever.
    up_timeout_s: float | None = 4.0
    link_capacity_bytes: int = 1 << 20


@dataclass(frozen=True, kw_only=True)
class PrefetchConfig:
    """Prefetch rules."""

    multiplier: int = 4
    strict: bool = False
    window_s: float = 0.020
    #: ``worker_enable_prefetch_count_reduction``.
    reduces_after_loss: bool = True
    max_reserved_bytes: int = 256 * 1024 * 1024


def prefetch_window_s(broker_kind: str) -> float:
    """Return the window of a broker's reserve.

    Behind kombu a message that goes back costs what publishing costs, and counts as a delivery: the reserve is Celery's
    there and never grows.
    """
    return 0.0 if broker_kind == "kombu" else PrefetchConfig.window_s


@dataclass(frozen=True, kw_only=True)
class ShutdownConfig:
    """How a cold shutdown begins; read by the runner, not by the native side."""

    #: ``worker_soft_shutdown_timeout``; 0 is off.
    soft_timeout_s: float = 0.0
    #: ``worker_enable_soft_shutdown_on_idle``.
    soft_on_idle: bool = False


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Everything the engine needs to know."""

    hostname: str
    broker: RedisBrokerConfig | AmqpBrokerConfig | SqliteBrokerConfig | KombuBrokerConfig
    results: RedisResultConfig | SqliteResultConfig | AmqpResultConfig | None
    tasks: tuple[TaskConfig, ...]
    pool: PoolConfig
    prefetch: PrefetchConfig = field(default_factory=PrefetchConfig)
    max_deliveries: int = 20
    notice_received: bool = False
    eta_task_limit: int | None = None
    shutdown: ShutdownConfig = field(default_factory=ShutdownConfig)

    @property
    def queue_names(self) -> list[str]:
        """Names of the queues consumed from."""
        return [queue if isinstance(queue, str) else queue.name for queue in self.broker.queues]
