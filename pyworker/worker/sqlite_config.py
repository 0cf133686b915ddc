"""Configuration of the embedded SQLite broker and result store, as the native side reads it.

Field names equal the Rust structs in ``native/src/sqlite/mod.rs``, where each is documented.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from pyworker.worker.config import QueueOrder, RetryPolicy


@dataclass(frozen=True, kw_only=True)
class SqliteAddress:
    """Where a file is and how safely it is written."""

    #: Absolute path of the database file.
    path: str
    durable: bool = True
    busy_timeout_s: float = 5.0


@dataclass(frozen=True, kw_only=True)
class SqliteBrokerConfig:
    """The SQLite broker."""

    kind: ClassVar[str] = "sqlite"
    address: SqliteAddress
    queues: tuple[str, ...]
    owner: str
    priority_steps: tuple[int, ...] = (0, 3, 6, 9)
    queue_order: QueueOrder = QueueOrder.ROUND_ROBIN
    visibility_timeout_s: float = 3600.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    max_message_bytes: int = 512 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class SqliteResultConfig:
    """Results in a SQLite file."""

    address: SqliteAddress
    expires_s: int | None = 86400
    retry: RetryPolicy = field(default_factory=RetryPolicy)
