"""The worker's view of our own application."""

from __future__ import annotations

import json
import logging
import platform
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kombu.connection import Connection
from kombu.pidbox import Mailbox

from pyworker._native import __version__
from pyworker.log import configure_logging, level_number, redirect_stdouts
from pyworker.signals import (
    celeryd_after_setup,
    celeryd_init,
    import_modules,
    worker_before_create_process,
    worker_init,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)
from pyworker.transport.redis_settings import url_list
from pyworker.transport.redis_url import socket_url, without_password
from pyworker.transport.sqlite_url import is_sqlite_url, parse_sqlite_url, url_of
from pyworker.worker.config import EngineConfig, Lane
from pyworker.worker.native_child import start_native_child, stop_native_child
from pyworker.worker.native_config import concurrency, engine_config, per_second, queue_names, require_pool
from pyworker.worker.native_deliveries import NativeDeliveries
from pyworker.worker.node_name import default_node_name, expand_host, expand_node
from pyworker.worker.protocol import TaskRunner, TaskSpec, Verdict, WorkerOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyworker._native import ChildLink, Engine, Notice
    from pyworker.app import Celery
    from pyworker.task import Task

logger = logging.getLogger("celery.worker")
strategy_logger = logging.getLogger("celery.worker.strategy")

#: Commands that claim an effect which the engine does not have yet.
_NOT_YET = frozenset(
    {
        "add_consumer", "autoscale", "cancel_consumer", "disable_events", "election", "enable_events", "pool_grow",
        "pool_restart", "pool_shrink", "rate_limit", "revoke_by_stamped_headers", "time_limit",
    }
)  # fmt: skip


class NativeWorkerApp:
    """Lets the engine run a :class:`pyworker.Celery` application."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        self.hostname = ""
        self._options = WorkerOptions()
        self._specs: tuple[TaskSpec, ...] = ()
        self._config: EngineConfig | None = None

    # -- before the pool

    def configure(self, options: WorkerOptions) -> None:
        """Send the early signals, import modules, set up logging."""
        conf = self.app.conf
        self._options = options
        self.hostname = expand_host(default_node_name(options.hostname))
        require_pool(self.app, options)
        celeryd_init.send(sender=self.hostname, instance=self, conf=conf, options=vars(options))
        self.app.set_current()
        self._import_modules()
        worker_init.send(sender=self)
        logfile = expand_node(options.logfile, self.hostname) if options.logfile else None
        configure_logging(conf, options.loglevel, logfile, None if options.no_color is None else not options.no_color)
        self._deliveries = NativeDeliveries(self.app, self.hostname)
        if options.purge:
            self._purge()
        celeryd_after_setup.send(sender=self.hostname, instance=self, conf=conf)

    def _import_modules(self) -> None:
        conf = self.app.conf
        import_modules.send(sender=self.app)
        for name in (*(conf.imports or ()), *(conf.include or ()), *self._options.include):
            import_module(name)
        self.app.finalize()

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
            self._specs = tuple(self._spec(self.app.tasks[name]) for name in sorted(self.app.tasks))
        return self._specs

    def _spec(self, task: Task[Any, Any]) -> TaskSpec:
        options = self._options
        is_unlimited = self.app.conf.worker_disable_rate_limits
        return TaskSpec(
            name=task.name,
            lane=Lane.FAST,
            acks_late=bool(task.acks_late),
            acks_on_failure=bool(task.acks_on_failure_or_timeout),
            soft_time_limit_s=_seconds(task.soft_time_limit or options.soft_time_limit_s),
            time_limit_s=_seconds(task.time_limit or options.time_limit_s),
            rate_limit_per_s=None if is_unlimited else per_second(task.rate_limit, task.name),
        )

    def engine_config(self) -> EngineConfig:
        """Return the engine's configuration; the same object from the second call on."""
        if self._config is None:
            self._config = engine_config(
                self.app, self.hostname, self._options, self.tasks(), strategy_logger.isEnabledFor(logging.INFO)
            )
        return self._config

    def banner(self) -> str:
        """Return the start-up banner."""
        if self._options.quiet:
            return ""
        config = self.engine_config()
        queues = "\n".join(f".> {name:<16} exchange={name}(direct) key={name}" for name in config.broker.queues)
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
            f".> task events: OFF\n.> engine:      pyworker {__version__}\n\n[queues]\n{queues}\n{tasks}"
        )

    def before_pool(self) -> None:
        """Redirect the standard streams and send ``worker_before_create_process``."""
        conf = self.app.conf
        if conf.worker_redirect_stdouts:
            redirect_stdouts(conf.worker_redirect_stdouts_level)
        worker_before_create_process.send(sender=self)

    def attach(self, engine: Engine) -> None:
        """Messages of protocol 1 are rewritten in the engine."""
        self._deliveries.engine = engine

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
        worker_ready.send(sender=self)

    def on_received(self, notice: Notice) -> None:
        """Log the receipt of a task."""
        headers = json.loads(notice.headers) if notice.headers else {}
        data = {
            "id": notice.task_id,
            "name": headers.get("shadow") or notice.task_name,
            "args": headers.get("argsrepr", ""),
            "kwargs": headers.get("kwargsrepr", ""),
            "eta": headers.get("eta"),
        }
        strategy_logger.info("Task %(name)s[%(id)s] received", data, extra={"data": data})

    def on_delivery(self, notice: Notice) -> Verdict:
        """Do what has to be done about a delivery that needs the main process."""
        return self._deliveries.resolve(notice)

    def on_stopping(self, signal_name: str, how: str, exitcode: int) -> None:
        """Send ``worker_shutting_down``."""
        self._deliveries.is_stopping_cold = how == "Cold"
        worker_shutting_down.send(sender=self.hostname, sig=signal_name, how=how, exitcode=exitcode)

    def on_stopped(self) -> None:
        """Send ``worker_shutdown``."""
        worker_shutdown.send(sender=self)

    # -- remote control

    def broker_connection(self) -> Connection:
        """Return a new kombu connection, not opened yet."""
        conf = self.app.conf
        options = dict(conf.broker_transport_options or {})
        if is_sqlite_url(conf.broker_read_url or conf.broker_url):
            address = parse_sqlite_url(conf.broker_read_url or conf.broker_url, setting="broker_url", options=options)
            # kombu has a memory transport of its own, which is another one.
            return Connection(url_of(address), transport_options=options)
        url = url_list(conf.broker_read_url or conf.broker_url, "broker_url")
        return Connection(
            ";".join(socket_url(each) for each in url.split(";")),
            transport_options=dict(conf.broker_transport_options or {}),
            connect_timeout=conf.broker_connection_timeout,
            ssl=conf.broker_use_ssl,
            failover_strategy=conf.broker_failover_strategy,
            credential_provider=(conf.broker_transport_options or {}).get("credential_provider"),
        )

    def control_mailbox(self) -> Mailbox | None:
        """Return the mailbox, None when ``worker_enable_remote_control`` is off."""
        conf = self.app.conf
        if not conf.worker_enable_remote_control:
            return None
        return Mailbox(
            conf.control_exchange, type="fanout", accept=conf.accept_content, queue_ttl=conf.control_queue_ttl,
            queue_expires=conf.control_queue_expires,
        )  # fmt: skip

    def control_command(self, name: str, arguments: Mapping[str, Any], worker: object) -> Any:
        """Leave every command to the engine but those that would claim an effect it does not have."""
        if name in _NOT_YET:
            return {"error": f"{name} is not supported by pyworker yet"}
        if name in ("revoke", "terminate") and (name == "terminate" or arguments.get("terminate")):
            ids = arguments.get("task_id") or ()
            self._deliveries.terminated_by_command.update([ids] if isinstance(ids, str) else ids)
        return NotImplemented


def _seconds(limit: Any) -> float | None:
    return float(limit) if limit else None


def _shown(url: Any) -> str:
    """A broker's URL, or several, for people."""
    return without_password(url if isinstance(url, str) else ";".join(map(str, url or ())))
