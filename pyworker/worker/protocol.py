"""The one seam between the engine's Python side and an application, whatever library it is built on.

Two implementations: :mod:`pyworker.compat.celery` for ``celery.Celery`` and :mod:`pyworker.worker.native`
for our own app. Nothing here names a Celery type, and nothing above this line asks which library it has.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Any, Protocol

from pyworker.worker.config import EngineConfig, Lane

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyworker._native import ChildLink, Engine, Job, Notice


class Verdict(Enum):
    """What the parent decides about a delivery that was shown to it."""

    ACK = "ack"
    REJECT = "reject"
    REQUEUE = "requeue"
    DISPATCH = "dispatch"
    #: Leave the message to its lease: another worker gets it (cold shutdown of late acks).
    ABANDON = "abandon"
    #: Not decided yet: the application holds the message and resolves it later, by ``Engine.resolve``.
    HOLD = "hold"


#: Between an exception's text and its traceback in what a child says of an end; both are for events.
TRACEBACK_MARK = "\0"


class Outcome(IntEnum):
    """How a job ended in the child. The numbers are the pool link's."""

    SUCCESS = 0
    FAILURE = 1
    RETRY = 2
    IGNORED = 3
    REJECTED = 4
    REJECTED_REQUEUE = 5
    #: The tracer itself failed, outside the task's body.
    INTERNAL_ERROR = 6
    #: The body or headers could not be decoded; the parent classifies it as Celery does.
    UNDECODABLE = 7


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """A registered task as the worker sees it."""

    name: str
    lane: Lane
    #: Why the task is not in a faster lane; empty for the fast lane.
    reasons: tuple[str, ...] = ()
    acks_late: bool = False
    acks_on_failure: bool = True
    soft_time_limit_s: float | None = None
    time_limit_s: float | None = None
    #: Starts per second on this worker.
    rate_limit_per_s: float | None = None


@dataclass(kw_only=True)
class WorkerOptions:
    """The options of ``pyworker worker``, as given on the command line; ``None`` means not given."""

    hostname: str | None = None
    loglevel: str | int | None = "WARNING"
    logfile: str | None = None
    pidfile: str | None = None
    pool: str = "prefork"
    concurrency: int | None = None
    queues: tuple[str, ...] = ()
    exclude_queues: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    prefetch_multiplier: int | None = None
    disable_prefetch: bool = False
    max_tasks_per_child: int | None = None
    max_memory_per_child_kib: int | None = None
    time_limit_s: float | None = None
    soft_time_limit_s: float | None = None
    task_events: bool = False
    without_gossip: bool = False
    without_mingle: bool = False
    without_heartbeat: bool = False
    heartbeat_interval_s: float | None = None
    purge: bool = False
    optimization: str | None = None
    statedb: str | None = None
    autoscale: str | None = None
    #: Where the probes listen, ``127.0.0.1:9808``; off without it.
    probes: str | None = None
    #: Runs in a program that is not the worker command: whose privileges are its own business.
    is_embedded: bool = False
    quiet: bool = False
    no_color: bool | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


class TaskRunner(Protocol):
    """Runs jobs inside a child. Made by :meth:`WorkerApp.child_started` after the fork."""

    #: Raised in a task whose soft time limit is over.
    soft_time_limit_error: type[BaseException]

    def run(self, job: Job, link: ChildLink) -> None:
        """Run one claimed job and report it through ``link.finish``; never raises but to end the child."""


class WorkerApp(Protocol):
    """What the worker asks of an application. Called in the order of declaration."""

    hostname: str

    def configure(self, options: WorkerOptions) -> None:
        """Parent, first: early signals, logging, finalization, privileges; raises what the library raises."""

    def tasks(self) -> Sequence[TaskSpec]:
        """Every registered task with its lane and the reason; the order fixes the task indexes."""

    def engine_config(self) -> EngineConfig:
        """The engine's configuration after all options and settings were applied.

        Raises:
            pyworker.exceptions.ImproperlyConfigured: a setting is unusable or not supported yet; names it.
        """

    def banner(self) -> str:
        """The start-up banner, empty when quiet."""

    def before_pool(self) -> None:
        """Parent, single-threaded, just before the fork server is forked (``celeryd_after_setup`` was sent)."""

    def attach(self, engine: Engine) -> None:
        """Parent: the engine exists (not started yet). Revocations and rewritten deliveries go to it."""

    def child_started(self, link: ChildLink, index: int) -> TaskRunner:
        """Child, main thread: initialise the process as the library does and return what runs jobs."""

    def child_stopping(self, pid: int, exitcode: int) -> None:
        """Child, before it exits (``worker_process_shutdown``)."""

    def on_ready(self, worker: object) -> None:
        """Parent: consuming (``worker_ready``). ``worker`` is the runner, for facades."""

    def on_received(self, notice: Notice) -> None:
        """Parent: a ``received`` notice (only asked for by ``EngineConfig.notice_received``): the log line."""

    def on_delivery(self, notice: Notice) -> Verdict:
        """Parent: a delivery that needs Python here: unknown, undecodable, protocol 1, parent lane, expired,
        revoked, lost, timed out, terminated, rejected. Does what the library does (states, signals, hooks,
        log lines) and says how the delivery ends."""

    def on_stopping(self, signal_name: str, how: str, exitcode: int) -> None:
        """Parent: a shutdown began (``worker_shutting_down``)."""

    def on_stopped(self) -> None:
        """Parent: everything is down (``worker_shutdown``)."""

    def broker_connection(self) -> Any:
        """A fresh kombu connection to the broker, for remote control and other rare traffic."""

    def control_command(self, name: str, arguments: Mapping[str, Any], worker: object) -> Any:
        """Run a remote control command that the engine does not answer itself; the reply or None."""
