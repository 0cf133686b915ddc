"""The options of ``pyworker bench``."""

from __future__ import annotations

from dataclasses import dataclass, replace

LANES = ("fast", "receivers", "library")
#: ``broker`` of a run on a SQLite file of its own; None is a Redis server of its own.
PRIVATE_FILE = "sqlite"
#: ``broker`` of a run on a RabbitMQ node of its own, with results on a Redis server of its own.
PRIVATE_RABBITMQ = "rabbitmq"
WORKS = ("noop", "print", "cpu", "mixed")


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What is measured and how; the command line's words."""

    worker: str = "pyworker"
    compare: tuple[str, ...] = ()
    app_kind: str = "celery"
    lane: str = "fast"
    work: str = "noop"
    tasks: int = 20_000
    #: Tasks for the compared workers, which may be many times slower; None: as many as for the first.
    compare_tasks: int | None = None
    #: Concurrency and pool of the compared workers; None: those of the first.
    compare_concurrency: int | None = None
    compare_pool: str | None = None
    concurrency: int = 2
    pool: str = "prefork"
    payload_bytes: int = 0
    ignore_result: bool = False
    duration_us: int = 0
    rtt_ms: float = 0.0
    broker: str | None = None
    backend: str | None = None
    rounds: int = 1
    loglevel: str = "WARNING"
    #: Whether the workers send task events (``-E``).
    task_events: bool = False
    #: Sent by the library's client and timed; the rest of the tasks is put into the queue faster.
    publish_sample: int = 2000
    idle_round_trips: int = 200
    idle_cpu_s: float = 5.0
    #: Length of the open-loop phase at half of the drain rate; 0 leaves it out.
    load_s: float = 3.0

    def for_compared(self) -> BenchOptions:
        """Return the options under which the workers of ``compare`` are measured."""
        return replace(
            self,
            tasks=self.compare_tasks or self.tasks,
            concurrency=self.compare_concurrency or self.concurrency,
            pool=self.compare_pool or self.pool,
        )
