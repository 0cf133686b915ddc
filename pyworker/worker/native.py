"""The worker's view of our own application."""

from __future__ import annotations

import json
import logging
import platform
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kombu.connection import Connection

from pyworker._native import __version__
from pyworker.backends.chords import ChordParts
from pyworker.backends.redis import RedisBackend
from pyworker.backends.sqlite import SqliteBackend
from pyworker.backends.sqlite_chords import SqliteChordParts
from pyworker.log import configure_logging, level_number, redirect_stdouts
from pyworker.publish.through_kombu import declarable
from pyworker.redacting import without_password
from pyworker.routing import Queue, Router
from pyworker.signals import (
    celeryd_after_setup,
    celeryd_init,
    task_received,
    worker_before_create_process,
    worker_init,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)
from pyworker.transport.native_paths import BrokerPath, path_of_settings
from pyworker.worker.broadcasts import Broadcasts, inbox_of
from pyworker.worker.broker_line import BrokerLine, event_line
from pyworker.worker.config import EngineConfig, Lane
from pyworker.worker.native_child import start_native_child, stop_native_child
from pyworker.worker.native_config import (
    broadcast_names,
    concurrency,
    engine_config,
    per_second,
    queue_names,
    require_pool,
)
from pyworker.worker.native_deliveries import NativeDeliveries
from pyworker.worker.native_kombu import KombuApplication
from pyworker.worker.native_monitoring import NativeMonitoring
from pyworker.worker.native_refusals import refuse_settings, refuse_tasks, warn_of_settings
from pyworker.worker.node_name import default_node_name, expand_host, expand_node
from pyworker.worker.protocol import TaskRunner, TaskSpec, Verdict, WorkerOptions
from pyworker.worker.superuser import check_privileges

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kombu.pidbox import Mailbox

    from pyworker._native import ChildLink, Engine, Notice
    from pyworker.app import Celery
    from pyworker.task import Task

logger = logging.getLogger("celery.worker")
strategy_logger = logging.getLogger("celery.worker.strategy")


class NativeWorkerApp(KombuApplication):
    """Lets the engine run a :class:`pyworker.Celery` application."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        self.hostname = ""
        self._options = WorkerOptions()
        self._specs: tuple[TaskSpec, ...] = ()
        self._config: EngineConfig | None = None
        self._broadcasts: Broadcasts | None = None
        self.line = BrokerLine(self.broker_connection)

    # -- before the pool

    def configure(self, options: WorkerOptions) -> None:
        """Send the early signals, import modules, set up logging."""
        conf = self.app.conf
        self._options = options
        self.hostname = expand_host(default_node_name(options.hostname))
        require_pool(self.app, options)
        refuse_settings(conf)
        celeryd_init.send(sender=self.hostname, instance=self, conf=conf, options=vars(options))
        if not options.is_embedded:
            check_privileges(conf.accept_content)
        self.app.set_current()
        self._import_modules()
        worker_init.send(sender=self)
        logfile = expand_node(options.logfile, self.hostname) if options.logfile else None
        configure_logging(conf, options.loglevel, logfile, None if options.no_color is None else not options.no_color)
        warn_of_settings(conf)
        self._deliveries = NativeDeliveries(self.app, self.hostname)
        if options.purge:
            self._purge()
        celeryd_after_setup.send(sender=self.hostname, instance=self, conf=conf)

    def _import_modules(self) -> None:
        self.app.loader.import_default_modules(self._options.include)

    def _purge(self) -> None:
        with self.broker_connection() as connection:
            channel = connection.channel()
            for name in queue_names(self.app, self._options):
                count = channel.queue_purge(name)
                logger.warning("purge: Erased %d messages from the queue %s.", count or 0, name)

    def tasks(self) -> Sequence[TaskSpec]:
        """Describe every task, by name."""
        if not self._specs:
            if not self.hostname:
                self._import_modules()
            refuse_tasks(self.app.tasks.values())
            self._specs = tuple(self._spec(self.app.tasks[name]) for name in sorted(self.app.tasks))
        return self._specs

    def _spec(self, task: Task[Any, Any]) -> TaskSpec:
        options = self._options
        is_unlimited = self.app.conf.worker_disable_rate_limits
        return TaskSpec(
            name=task.name,
            lane=Lane.FAST,
            acks_late=bool(task.acks_late),
            acks_on_failure=bool(task.acks_on_failure),
            soft_time_limit_s=_seconds(task.soft_time_limit or options.soft_time_limit_s),
            time_limit_s=_seconds(task.time_limit or options.time_limit_s),
            rate_limit_per_s=None if is_unlimited else per_second(task.rate_limit, task.name),
        )

    def broker_path(self) -> BrokerPath:
        """Return how the broker is reached."""
        conf = self.app.conf
        return path_of_settings(conf, conf.broker_read_url or conf.broker_url)

    def engine_config(self) -> EngineConfig:
        """Return the engine's configuration; the same object from the second call on."""
        if self._config is None:
            notices_receipts = strategy_logger.isEnabledFor(logging.INFO) or bool(task_received.receivers)
            self._config = engine_config(self.app, self.hostname, self._options, self.tasks(), notices_receipts)
        return self._config

    def banner(self) -> str:
        """Return the start-up banner."""
        if self._options.quiet:
            return ""
        queues = "\n".join(
            f".> {queue.name:<16} exchange={queue.exchange}({queue.exchange_type}) key={queue.routing_key}"
            for queue in self._known_queues()
        )
        tasks = ""
        if level_number(self._options.loglevel) <= logging.INFO:
            names = [spec.name for spec in self.tasks() if not spec.name.startswith("celery.")]
            tasks = "\n[tasks]\n" + "\n".join(f"  . {name}" for name in names) + "\n"
        return (
            f"\n{self.hostname} pyworker v{__version__}\n\n"
            f"{platform.platform()} {datetime.now().replace(microsecond=0)}\n\n"
            f"[config]\n.> app:         {self.app.main or '__main__'}:{id(self.app):#x}\n"
            f".> transport:   {_shown(self.app.conf.broker_url)}\n"
            f".> results:     {self.app.backend.as_uri()}\n"
            f".> concurrency: {concurrency(self.app, self._options)} ({self._options.pool})\n"
            f".> task events: {self._events_shown()}\n.> engine:      pyworker {__version__}\n\n"
            f"[queues]\n{queues}\n{tasks}"
        )

    def _events_shown(self) -> str:
        if self._options.task_events or self.app.conf.worker_send_task_events:
            return "ON"
        return "OFF (enable -E to monitor tasks in this worker)"

    def before_pool(self) -> None:
        """Redirect the standard streams and send ``worker_before_create_process``."""
        conf = self.app.conf
        if conf.worker_redirect_stdouts:
            redirect_stdouts(conf.worker_redirect_stdouts_level)
        worker_before_create_process.send(sender=self)

    def attach(self, engine: Engine) -> None:
        """Put the engine behind deliveries, events and remote control."""
        self._deliveries.engine = engine
        self._monitoring = NativeMonitoring(
            self.app, self.hostname, self._options, self.engine_config(), engine, self._deliveries,
            connect=self.broker_connection, event_line=event_line(self.app, self.line),
            limits_s=(_seconds(self._options.soft_time_limit_s), _seconds(self._options.time_limit_s)),
        )  # fmt: skip
        backend: Any = self.app.backend
        # A lost child's task is a part of its chord too, and only the main process is left to count it.
        if isinstance(backend, RedisBackend):
            backend.chord_parts = ChordParts(backend, waits_aside=True)
        elif isinstance(backend, SqliteBackend):
            backend.chord_parts = SqliteChordParts(backend, waits_aside=True)

    # -- children

    def child_started(self, link: ChildLink, index: int) -> TaskRunner:
        """Initialise a child."""
        names = [spec.name for spec in self.tasks()]
        runner: TaskRunner = start_native_child(self.app, self.hostname, link, index, names)
        return runner

    def child_stopping(self, pid: int, exitcode: int) -> None:
        """Send ``worker_process_shutdown``."""
        stop_native_child(self.app, pid, exitcode)

    # -- while it runs

    def on_ready(self, worker: object) -> None:
        """Declare the queues for producers that publish through exchanges, and send ``worker_ready``."""
        self._monitoring.start()
        self._declare_queues()
        worker_ready.send(sender=self)

    def _known_queues(self) -> list[Queue]:
        """The queues that are consumed from, but for the one that this node alone knows."""
        router, own = Router(self.app.conf), inbox_of(self.hostname)
        return [router.queue(name) for name in self.engine_config().queue_names if name != own]

    def _declare_queues(self) -> None:
        """Bind queues with exchanges of their own; others are found without a binding."""
        if self.engine_config().broker.kind in ("amqp", "kombu"):
            return  # declared before they were consumed from
        # Broadcasts are bound by who listens for them: kombu deletes such a queue with the connection that declared it.
        bound = [
            queue for queue in self._known_queues() if queue.exchange != queue.name and queue.exchange_type != "fanout"
        ]
        if not bound:
            return
        with self.broker_connection() as connection, connection.channel() as channel:
            for queue in bound:
                own = queue.declared
                made: Any = own if own is not None else declarable(*queue[:4])
                made(channel).declare()

    def on_received(self, notice: Notice) -> None:
        """Log the receipt of a task and send ``task_received``."""
        headers = json.loads(notice.headers) if notice.headers else {}
        data = {
            "id": notice.task_id,
            "name": headers.get("shadow") or notice.task_name,
            "args": headers.get("argsrepr", ""),
            "kwargs": headers.get("kwargsrepr", ""),
            "eta": headers.get("eta"),
        }
        strategy_logger.info("Task %(name)s[%(id)s] received", data, extra={"data": data})
        if task_received.receivers:
            task_received.send(sender=self, request=self._deliveries.request_of(notice))

    def on_delivery(self, notice: Notice) -> Verdict:
        """Do what has to be done about a delivery that needs the main process."""
        return self._deliveries.resolve(notice)

    def on_stopping(self, signal_name: str, how: str, exitcode: int) -> None:
        """Send ``worker_shutting_down``."""
        self._deliveries.is_stopping_cold = how == "Cold"
        worker_shutting_down.send(sender=self.hostname, sig=signal_name, how=how, exitcode=exitcode)

    def on_stopped(self) -> None:
        """Send ``worker_shutdown``."""
        if self._broadcasts is not None:
            self._broadcasts.stop()
        self._monitoring.stop()
        worker_shutdown.send(sender=self)

    # -- remote control

    def broker_connection(self) -> Connection:
        """Return a new kombu connection, not opened yet."""
        connection: Connection = self.app.connection_for_read(heartbeat=self.app.conf.broker_heartbeat)
        return connection

    def control_mailbox(self) -> Mailbox | None:
        """Return the mailbox, None when ``worker_enable_remote_control`` is off."""
        conf = self.app.conf
        if not conf.worker_enable_remote_control or not self.broker_connection().supports_exchange_type("fanout"):
            return None
        mailbox: Mailbox = self.app.control.mailbox(None)
        return mailbox

    def control_command(self, name: str, arguments: Mapping[str, Any], worker: object) -> Any:
        """Run one of Celery's commands, or one of the application's own."""
        return self._monitoring.run_command(name, arguments, worker)

    # -- monitoring, and what happens when the broker goes and comes back

    def before_consuming(self) -> None:
        """Listen for broadcasts, and get revoked ids and the clock from the neighbours."""
        names = broadcast_names(self.app, self._options)
        queues = [self.app.amqp.queues[name] for name in names]
        self._broadcasts = Broadcasts(self.broker_connection, queues, inbox_of(self.hostname))
        self._broadcasts.start()
        self._monitoring.mingle()

    def publish_events(self, body: bytes) -> None:
        """Publish a list of task events."""
        self._monitoring.events.put(body)

    def on_connection_lost(self) -> None:
        """Cancel tasks that will be delivered again, if the application wants that."""
        if self.app.conf.worker_cancel_long_running_tasks_on_connection_loss:
            self._deliveries.cancel_unacknowledged()

    def on_reconnected(self) -> None:
        """Nothing to do: events wait in their own queue."""


def _seconds(limit: Any) -> float | None:
    return float(limit) if limit else None


def _shown(url: Any) -> str:
    """A broker's URL, or several, for people."""
    return without_password(url if isinstance(url, str) else ";".join(map(str, url or ())))
