"""The figures of one measured session."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(kw_only=True)
class Figures:
    """One subject, one round. ``None``: not measured."""

    subject: str
    version: str
    tasks: int
    enqueue_per_s: float | None = None
    batch_enqueue_per_s: float | None = None
    #: From the first task's start to the last result stored (with ignored results: the last task's start).
    drain_per_s: float | None = None
    #: From the start of the worker's process to the last result stored.
    drain_with_start_per_s: float | None = None
    start_to_first_task_s: float | None = None
    cpu_s_per_1000: float | None = None
    peak_memory_mb: float | None = None
    parent_memory_mb: float | None = None
    #: Mean proportional set size of the processes below the first.
    child_memory_mb: float | None = None
    processes: int | None = None
    idle_cpu_percent: float | None = None
    #: From the call that sends a task to an idle worker to the task's first line.
    idle_start_p50_ms: float | None = None
    idle_p50_ms: float | None = None
    idle_p99_ms: float | None = None
    load_offered_per_s: float | None = None
    #: From the time at which a task was due to the moment the broker has it: the client's and the broker's part.
    load_sent_p50_ms: float | None = None
    load_sent_p99_ms: float | None = None
    load_p50_ms: float | None = None
    load_p99_ms: float | None = None
    load_max_ms: float | None = None
    stop_s: float | None = None
    exit_code: int | None = None
    repeated: int = 0
    checked_results: int = 0
    #: What is wrong with results, the broker's state or the worker's end; a figure counts only if this is empty.
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        return asdict(self)


def numbers() -> list[str]:
    """Return the names of all figures that are numbers to compare."""
    skipped = {"subject", "version", "problems", "tasks", "exit_code", "repeated", "checked_results"}
    return [item.name for item in fields(Figures) if item.name not in skipped]


def mean_and_deviation(rounds: Sequence[Figures], name: str) -> tuple[float, float] | None:
    """Return mean and standard deviation of one figure over the rounds."""
    values = [getattr(item, name) for item in rounds if getattr(item, name) is not None]
    if not values:
        return None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that ``percent`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]
