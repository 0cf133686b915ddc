"""What events tell of one worker."""

from __future__ import annotations

import bisect
import logging
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

logger = logging.getLogger("pyworker.events.state")

#: For how many per cent of its heartbeat's interval a worker counts as alive after a heartbeat.
HEARTBEAT_EXPIRE_WINDOW = 200
#: More seconds than this between an event's time and its arrival are worth a warning.
HEARTBEAT_DRIFT_MAX = 16

_warned_of: set[str | None] = set()


def heartbeat_expires(timestamp: float, freq: float = 60, expire_window: float = HEARTBEAT_EXPIRE_WINDOW) -> float:
    """Return until when a heartbeat counts.

    Args:
        timestamp: when it came, in seconds.
        freq: seconds between heartbeats.
        expire_window: for how many per cent of that.
    """
    return float(timestamp) + float(freq) * expire_window / 100


class Worker:
    """A worker as its events describe it. Workers of one name are equal.

    Args:
        hostname: the node's name.
        pid: its main process.
        freq: seconds between its heartbeats.
        heartbeats: when the last of them came.
        clock: its logical clock.
        active, processed: tasks being run, tasks started since it began.
        loadavg: its machine's load.
        sw_ident, sw_ver, sw_sys: what it is, in which version, on which system.
    """

    heartbeat_max: ClassVar[int] = 4
    expire_window: ClassVar[float] = HEARTBEAT_EXPIRE_WINDOW

    _fields: ClassVar[tuple[str, ...]] = (
        "hostname", "pid", "freq", "heartbeats", "clock", "active", "processed", "loadavg", "sw_ident", "sw_ver",
        "sw_sys",
    )  # fmt: skip

    def __init__(
        self,
        hostname: str | None = None,
        pid: int | None = None,
        freq: float = 60,
        heartbeats: list[float] | None = None,
        clock: int = 0,
        active: int | None = None,
        processed: int | None = None,
        loadavg: Any = None,
        sw_ident: str | None = None,
        sw_ver: str | None = None,
        sw_sys: str | None = None,
    ) -> None:
        self.hostname = hostname
        self.pid = pid
        self.freq = freq
        self.heartbeats = [] if heartbeats is None else heartbeats
        self.clock = clock or 0
        self.active = active
        self.processed = processed
        self.loadavg = loadavg
        self.sw_ident = sw_ident
        self.sw_ver = sw_ver
        self.sw_sys = sw_sys

    def event(
        self,
        type_: str | None,
        timestamp: float | None = None,
        local_received: float | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        """Take in an event.

        Args:
            type_: its type without the group; ``None`` for an event of a task of this worker.
            timestamp: when it was sent.
            local_received: when it came.
            fields: what it carries; each becomes an attribute.
        """
        self.__dict__.update(fields or {})
        if type_ == "offline":
            self.heartbeats.clear()
        elif local_received and timestamp:
            self._warn_of_drift(local_received, timestamp)
            if len(self.heartbeats) >= self.heartbeat_max:
                del self.heartbeats[0]
            bisect.insort(self.heartbeats, local_received)

    def _warn_of_drift(self, local_received: float, timestamp: float) -> None:
        drift_s = abs(int(local_received) - int(timestamp))
        if drift_s > HEARTBEAT_DRIFT_MAX and self.hostname not in _warned_of:
            _warned_of.add(self.hostname)
            logger.warning(
                "Substantial drift from %s may mean clocks are out of sync.  Current drift is %s seconds.  "
                "[orig: %s recv: %s]",
                self.hostname, drift_s, datetime.fromtimestamp(local_received), datetime.fromtimestamp(timestamp),
            )  # fmt: skip

    def update(self, f: Mapping[str, Any], **kw: Any) -> None:
        """Set attributes."""
        for name, value in {**f, **kw}.items():
            setattr(self, name, value)

    @property
    def status_string(self) -> str:
        """``ONLINE`` or ``OFFLINE``."""
        return "ONLINE" if self.alive else "OFFLINE"

    @property
    def heartbeat_expires(self) -> float:
        """Until when the last heartbeat counts."""
        return heartbeat_expires(self.heartbeats[-1], self.freq, self.expire_window)

    @property
    def alive(self) -> bool:
        """Whether a heartbeat came lately."""
        return bool(self.heartbeats) and time.time() < self.heartbeat_expires

    @property
    def id(self) -> str:
        """Name and process."""
        return f"{self.hostname}.{self.pid}"

    def __eq__(self, other: object) -> bool:
        return self.hostname == other.hostname if isinstance(other, Worker) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.hostname)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, name) for name in self._fields)

    def __repr__(self) -> str:
        return f"<Worker: {self.hostname} ({self.status_string} clock:{self.clock})"
