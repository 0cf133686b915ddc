"""What remote control of our own app works on: one running node."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from inspect import isfunction
from typing import TYPE_CHECKING, Any, TypeVar

from kombu import Exchange, Queue

from pyworker.worker.added_queues import AddedQueues

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyworker._native import Engine
    from pyworker.app import Celery
    from pyworker.worker.autoscale import Autoscaler
    from pyworker.worker.config import EngineConfig
    from pyworker.worker.event_stream import EventStream
    from pyworker.worker.revoked_ids import RevokedIds

Kind = TypeVar("Kind")


@dataclass(kw_only=True)
class NativeNode:
    """The parts of a node."""

    app: Celery
    hostname: str
    config: EngineConfig
    engine: Engine
    revoked: RevokedIds
    revoked_stamps: dict[str, list[str]]
    events: EventStream
    #: Takes the ids that a command terminated: they end as revoked.
    terminated: set[str]
    #: Makes a kombu connection, not opened yet.
    connect: Callable[[], Any]
    #: What ``inspect stats`` calls the pool.
    implementation: str
    #: The worker's own limits, for tasks that have none: soft and hard, in seconds.
    time_limits_s: tuple[float | None, float | None] = (None, None)
    is_solo: bool = False
    autoscaler: Autoscaler | None = None
    started_at: float = field(default_factory=time.time)
    queues: dict[str, Queue] = field(default_factory=dict)
    added_queues: AddedQueues = field(init=False)

    def __post_init__(self) -> None:
        self.added_queues = AddedQueues(self.connect, self.hostname, self.config.broker.kind)
        self.queues = {
            name: Queue(name, Exchange(name, type="direct"), routing_key=name) for name in self.config.queue_names
        }

    def task_index(self, name: str) -> int | None:
        """Return the engine's index of a task."""
        return next((index for index, task in enumerate(self.config.tasks) if task.name == name), None)


def named_plainly(commands: type[Kind]) -> type[Kind]:
    """Have Python's own complaints about a command's arguments name the command alone, as Celery's replies do."""
    for name, member in vars(commands).items():
        if isfunction(member):
            member.__qualname__ = name
    return commands


def ok(value: Any) -> dict[str, Any]:
    """Say what was done."""
    return {"ok": value}


def nok(value: Any) -> dict[str, Any]:
    """Say why it was not done."""
    return {"error": value}


def as_list(value: Any) -> list[Any]:
    """Return one or many as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]
