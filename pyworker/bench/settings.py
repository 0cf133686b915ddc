"""What a worker under test has to know; it travels to the worker process in its environment."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any

ENVIRONMENT_VARIABLE = "PYWORKER_BENCH_SETTINGS"


@dataclass(frozen=True, kw_only=True)
class AppSettings:
    """The bench application's settings, equal in the client and in the worker."""

    broker_url: str
    backend_url: str
    queue: str
    tally_path: str
    tally_capacity: int
    ignore_result: bool = False
    #: Seconds that one task sleeps; 0 for a task that does nothing.
    duration_s: float = 0.0
    #: What the task does: ``noop`` (sleeps if a duration is given), ``print`` (a line per task), ``cpu`` (hashes).
    work: str = "noop"
    #: What keeps a task out of the fastest lane: ``fast`` (nothing), ``receivers`` or ``library``.
    lane: str = "fast"
    #: ``broker_transport_options`` of applications with Celery's settings.
    transport_options: dict[str, Any] = field(default_factory=dict)
    #: Whether the worker sends task events.
    task_events: bool = False

    def to_environment(self) -> dict[str, str]:
        """Return the variables that carry these settings to a worker."""
        return {ENVIRONMENT_VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_environment(cls) -> AppSettings:
        """Read the settings that the bench put into the worker's environment."""
        return cls(**json.loads(os.environ[ENVIRONMENT_VARIABLE]))
