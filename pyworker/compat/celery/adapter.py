"""The worker's view of a ``celery.Celery`` application: every duty of :class:`WorkerApp`, done by Celery's own code."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from celery import signals
from celery.utils.log import get_logger
from celery.worker import state
from kombu.serialization import prepare_accept_content

from pyworker.compat.celery import child
from pyworker.compat.celery.banner import startup_banner
from pyworker.compat.celery.broker_choice import broker_config, broker_path
from pyworker.compat.celery.calls import CallDesk
from pyworker.compat.celery.control import PanelControl
from pyworker.compat.celery.deliveries import Deliveries
from pyworker.compat.celery.events import TaskEvents
from pyworker.compat.celery.kombu_settings import KombuApplication
from pyworker.compat.celery.options import worker_arguments
from pyworker.compat.celery.receipts import ReceiptLog
from pyworker.compat.celery.request_facade import Requests
from pyworker.compat.celery.revocations import unwatch_revoked, watch_revoked
from pyworker.compat.celery.sqlite_settings import result_config
from pyworker.compat.celery.task_specs import task_configs, task_specs, watched_tasks
from pyworker.compat.celery.urls import require_urls
from pyworker.compat.celery.versions import require_supported
from pyworker.compat.celery.worker_facade import make_worker
from pyworker.worker.added_queues import AddedQueues
from pyworker.worker.broker_line import BrokerLine, event_line
from pyworker.worker.config import (
    EngineConfig,
    Lane,
    PoolConfig,
    PrefetchConfig,
    ShutdownConfig,
    prefetch_window_s,
)
from pyworker.worker.engine_clock import let_engine_keep

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kombu.pidbox import Mailbox

    from pyworker._native import ChildLink, Engine, Notice
    from pyworker.transport.native_paths import BrokerPath
    from pyworker.worker.control import ControlledWorker
    from pyworker.worker.protocol import TaskRunner, TaskSpec, Verdict, WorkerOptions

logger = get_logger("celery.worker")


class CeleryWorkerApp(KombuApplication):
    """Lets the engine run a Celery application. One per process, as Celery's own worker state.

    Args:
        app: a ``celery.Celery``, or a proxy of one.

    Raises:
        ImproperlyConfigured: the installed Celery is not supported.
    """

    def __init__(self, app: Any) -> None:
        require_supported()
        resolve = getattr(type(app), "_get_current_object", None)
        self.app = resolve(app) if resolve is not None else app
        self.hostname = ""
        self._specs: tuple[TaskSpec, ...] = ()
        self._config: EngineConfig | None = None
        self._engine: Engine | None = None
        self._runner: child.CeleryTaskRunner | None = None
        self.line = BrokerLine(self.broker_connection)

    # -- before the pool

    def configure(self, options: WorkerOptions) -> None:
        """Build Celery's worker: its signals, privileges, settings, queues, logging and boot steps."""
        require_urls(self.app.conf)
        self._worker = make_worker(
            self.app, worker_arguments(self.app, options), on_request=self._hand_over, jobs_of=self._jobs_of
        )
        self.hostname = self._worker.hostname
        consumer = self._worker.consumer
        consumer.line = self.line
        self._requests = Requests(consumer, prepare_accept_content(self.app.conf.accept_content))
        # Celery's books of requests are touched by deliveries in the main thread and by remote control in its own.
        books = threading.RLock()
        self._calls = CallDesk(lambda: self.app.tasks)
        self._deliveries = Deliveries(
            consumer, self._requests, books, lambda: bool(state.should_terminate), self._calls
        )
        self._panel = PanelControl(self._worker, self._requests, books, self._deliveries.terminated_by_command)
        self._worker.prepare_start()

    def tasks(self) -> Sequence[TaskSpec]:
        """Describe every registered task, by name."""
        if not self._specs:
            # ``check`` asks without a worker; its limits are then the settings'.
            worker = getattr(self, "_worker", None)
            if worker is None:
                self.app.loader.import_default_modules()
            self.app.finalize()
            self._specs = task_specs(
                self.app,
                soft_time_limit_s=getattr(worker, "soft_time_limit", None),
                time_limit_s=getattr(worker, "time_limit", None),
            )
        return self._specs

    def broker_path(self) -> BrokerPath:
        """Return how the broker is reached."""
        return broker_path(self.app)

    def engine_config(self) -> EngineConfig:
        """Return the engine's configuration; the same object from the second call on."""
        if self._config is None:
            self._config = self._make_config()
        return self._config

    def _make_config(self) -> EngineConfig:
        worker, conf = self._worker, self.app.conf
        specs = self.tasks()
        self._receipts = ReceiptLog(specs)
        broker = broker_config(self.app, self.hostname, worker.consumer.initial_prefetch_count)
        return EngineConfig(
            hostname=self.hostname,
            broker=broker,
            results=result_config(self.app),
            tasks=task_configs(specs, watched_tasks(self.app, specs)),
            pool=PoolConfig(
                # With --autoscale the pool begins at its lower bound.
                concurrency=max(int(worker.min_concurrency), 1),
                max_tasks_per_child=worker.max_tasks_per_child,
                max_memory_per_child_kib=worker.max_memory_per_child,
                up_timeout_s=conf.worker_proc_alive_timeout,
            ),
            prefetch=PrefetchConfig(
                multiplier=int(worker.prefetch_multiplier),
                strict=bool(conf.get("worker_disable_prefetch")),
                # Celery 5.3 does not know the setting.
                reduces_after_loss=bool(conf.get("worker_enable_prefetch_count_reduction", True)),
                window_s=prefetch_window_s(broker.kind),
            ),
            notice_received=self._receipts.is_wanted,
            eta_task_limit=conf.get("worker_eta_task_limit"),
            shutdown=ShutdownConfig(
                soft_timeout_s=float(conf.get("worker_soft_shutdown_timeout") or 0.0),
                soft_on_idle=bool(conf.get("worker_enable_soft_shutdown_on_idle")),
            ),
        )

    def banner(self) -> str:
        """Return Celery's banner with a line for the engine."""
        return "" if self._worker.quiet else startup_banner(self._worker)

    def before_pool(self) -> None:
        """Do what Celery does after its banner: process title, standard streams, warnings about settings."""
        self._worker.finish_start()
        # Only who has a strategy or a step of its own hands functions to the pool; all others' tasks pay nothing.
        if any(spec.lane is Lane.PARENT for spec in self.tasks()) or any(self.app.steps.values()):
            self._calls.open()
        # Upstream sends it before each fork; here one fork is the origin of all children.
        if hasattr(signals, "worker_before_create_process"):
            signals.worker_before_create_process.send(sender=self._worker.pool)

    def attach(self, engine: Engine) -> None:
        """Show the engine to everything that acts on it."""
        self._engine = self._deliveries.engine = self._panel.engine = engine
        let_engine_keep(self.app.clock, engine)
        self._worker.attach(engine)
        self._worker.pool.calls = self._calls
        self._calls.attach(engine)
        consumer = self._worker.consumer
        names = [spec.name for spec in self.tasks()]
        consumer.task_indexes = {name: index for index, name in enumerate(names)}
        kind = self.engine_config().broker.kind
        consumer.added_queues = AddedQueues(self.app.connection_for_read, self._worker.hostname, kind)
        consumer.ignores_rate_limits = bool(self.app.conf.worker_disable_rate_limits)
        self._events = TaskEvents(consumer, names, event_line(self.app, self.line))
        self._events.engine = engine
        self._worker.on_events_changed(self._events.update)
        engine.set_revoke_bounds(count=state.revoked.maxlen, life_s=state.revoked.expires)
        watch_revoked(engine)

    # -- children

    def child_started(self, link: ChildLink, index: int) -> TaskRunner:
        """Initialise a child as Celery's pool does."""
        specs = self.tasks()
        names = tuple(spec.name for spec in specs)
        lanes = tuple(spec.lane for spec in specs)
        self._runner = child.start_celery_child(self.app, self.hostname, link, index, names, lanes)
        if self._calls.is_open:
            self._runner.run = self._calls.runner(self._runner.run)  # type: ignore[assignment]
        return self._runner

    def child_stopping(self, pid: int, exitcode: int) -> None:
        """Send ``worker_process_shutdown`` as Celery's pool does."""
        child.stop_celery_child(self.app, pid, exitcode)
        # Solo lives on in this process, and the next child's link is another one.
        if self._runner is not None and self._runner.writer is not None:
            self._runner.writer.deactivate()

    # -- while it runs

    def on_ready(self, worker: object) -> None:
        """Declare the queues, start the application's boot steps and send ``worker_ready``."""
        if self.engine_config().broker.kind not in ("amqp", "kombu"):
            # There the queues were declared before they were consumed from.
            self._declare_queues()
        self._worker.start_steps()

    def _declare_queues(self) -> None:
        """Bind the queues as kombu does, so that producers which only know exchanges reach them."""
        with self.app.connection_for_write() as connection:
            try:
                self.app.amqp.TaskConsumer(connection.channel()).close()
            except connection.connection_errors + connection.channel_errors as error:
                logger.warning("cannot declare the queues now: %r", error)

    def on_received(self, notice: Notice) -> None:
        """Log the receipt of a task."""
        self._receipts.log(notice)

    def on_delivery(self, notice: Notice) -> Verdict:
        """Do what Celery does about a delivery that needs the main process."""
        return self._deliveries.resolve(notice)

    def on_stopping(self, signal_name: str, how: str, exitcode: int) -> None:
        """Send ``worker_shutting_down`` and set the flag that Celery's requests look at."""
        try:
            signals.worker_shutting_down.send(sender=self.hostname, sig=signal_name, how=how, exitcode=exitcode)
        finally:
            self._calls.stop()
            setattr(state, "should_terminate" if how == "Cold" else "should_stop", exitcode)

    def on_stopped(self) -> None:
        """Stop the application's boot steps and send ``worker_shutdown``."""
        self._worker.stop_steps()
        self._worker.consumer.added_queues.stop()
        self._calls.close()
        self._events.stop()
        unwatch_revoked()
        signals.worker_shutdown.send(sender=self._worker)

    # -- monitoring, and what happens when the broker goes and comes back

    def before_consuming(self) -> None:
        """Get revoked ids and the clock from the neighbours, so that nothing revoked is started."""
        mingle = self._worker.consumer.mingle
        if mingle is None:
            return
        try:
            mingle(self._worker.consumer)
        except Exception as error:
            # Without a broker there are no neighbours either; the engine reports the broker by itself.
            logger.debug("mingle: %r", error)

    def publish_events(self, body: bytes) -> None:
        """Publish a list of task events."""
        self._events.put(body)

    def on_connection_lost(self) -> None:
        """Cancel tasks that will be delivered again, if the application wants that."""
        if self.app.conf.get("worker_cancel_long_running_tasks_on_connection_loss"):
            self._deliveries.cancel_unacknowledged()

    def on_reconnected(self) -> None:
        """Send the worker's events that could not leave meanwhile."""
        try:
            self._worker.consumer.event_dispatcher.flush()
        except Exception as error:
            logger.warning("events: cannot publish: %r", error)

    # -- remote control

    def broker_connection(self) -> Any:
        """Return a new kombu connection, not opened yet."""
        return self.app.connection_for_read(heartbeat=self.app.conf.broker_heartbeat)

    def control_mailbox(self) -> Mailbox | None:
        """Return Celery's own mailbox, ``None`` when ``worker_enable_remote_control`` is off."""
        has_fanout = self.app.connection_for_read().supports_exchange_type("fanout")
        return self.app.control.mailbox if has_fanout and self.app.conf.worker_enable_remote_control else None

    def control_command(self, name: str, arguments: Mapping[str, Any], worker: ControlledWorker) -> Any:
        """Run a command of Celery's panel or of the application."""
        return self._panel.run(name, arguments, worker)

    # -- for the facades

    def _hand_over(self, request: Any) -> None:
        self._deliveries.hand_over(request)

    def _jobs_of(self, pid: int) -> list[str]:
        return [job.task_id for job in self._engine.jobs("active") if job.pid == pid] if self._engine else []
