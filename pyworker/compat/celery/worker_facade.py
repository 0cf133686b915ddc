"""Celery's worker program without its engine.

The class is made from the application's own ``app.Worker``, so everything before the pool starts (signals, privileges,
settings, queues, logging, boot steps) is done by the installed Celery in its own order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import signals
from celery.bootsteps import RUN
from celery.utils.log import get_logger
from celery.worker import WorkController

from pyworker.compat.celery.blueprints import WorkerBlueprint
from pyworker.compat.celery.consumer_facade import make_consumer
from pyworker.compat.celery.extra_consumers import ExtraConsumers
from pyworker.compat.celery.pool_facade import EnginePool

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyworker._native import Engine

_OLD_SETTINGS = (
    "Please run `celery upgrade settings path/to/settings.py` "
    "to avoid these warnings and to allow a smoother upgrade "
    "to Celery 6.0."
)


class WorkerFacade:
    """What is ours in the worker; mixed in before the application's worker class."""

    #: Set by :func:`make_worker` before the worker's own initialisation runs.
    on_request: Callable[[Any], None]
    jobs_of: Callable[[int], list[str]]

    Blueprint = WorkerBlueprint
    hub = None
    semaphore = None
    autoscaler = None
    beat = None
    _extra_consumers: ExtraConsumers | None = None
    max_concurrency = None
    _on_events_changed: Callable[[], None] | None = None

    # Attributes of the class it is mixed into.
    app: Any
    hostname: str
    pool: Any
    pool_cls: Any
    concurrency: int
    min_concurrency: int
    autoscale: Any
    max_tasks_per_child: int | None
    soft_time_limit: float | None
    time_limit: float | None
    purge: bool
    redirect_stdouts: bool
    redirect_stdouts_level: Any
    consumer: Any
    blueprint: Any
    steps: list[Any]

    def should_use_eventloop(self) -> bool:
        """Refuse Celery's event loop: boot steps would make one, and nothing would run it."""
        return False

    def make_pool(self) -> EnginePool:
        """Make the view of the pool; called by the blueprint."""
        pool_class = self.pool_cls
        return EnginePool(
            1 if pool_class.__module__.endswith(".solo") else max(self.min_concurrency, 1),
            implementation=f"{pool_class.__module__}:{pool_class.__name__}",
            max_tasks_per_child=self.max_tasks_per_child,
            timeouts=(self.soft_time_limit, self.time_limit),
            jobs_of=self.jobs_of,
            app=self.app,
        )

    def make_consumer(self) -> Any:
        """Make the consumer; called by the blueprint."""
        return make_consumer(self, self.on_request)

    def attach(self, engine: Engine) -> None:
        """Show the engine to the pool's view."""
        self.pool.engine = engine
        self.consumer.engine = self.consumer.qos.engine = self.consumer.event_dispatcher.engine = engine

    def on_events_changed(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called whenever task events may have been turned on or off."""
        self._on_events_changed = tell

    def task_events_changed(self) -> None:
        """Tell the engine whether task events are wanted."""
        if self._on_events_changed is not None:
            self._on_events_changed()

    def reload(self, modules: Any = None, reload: bool = False, reloader: Any = None) -> None:
        """Replace the children. New code needs a new fork server, that is a new worker.

        Raises:
            NotImplementedError: modules are to be imported or reloaded.
        """
        if modules or reload:
            raise NotImplementedError(
                "the children keep the modules that the worker was started with; send it SIGHUP to run new code"
            )
        self.pool.restart()

    def prepare_start(self) -> None:
        """Do what Celery does between its initialisation and its banner."""
        self.blueprint.state = RUN
        # Not the program's own on_start: that also prints the banner and installs signal handlers.
        WorkController.on_start(self)
        signals.celeryd_after_setup.send(sender=self.hostname, instance=self, conf=self.app.conf)
        if self.purge:
            program: Any = self
            program.purge_messages()

    def finish_start(self) -> None:
        """Do what Celery does between its banner and the start of its pool."""
        program: Any = self
        program.set_process_status("-active-")
        if not program._custom_logging and self.redirect_stdouts:
            self.app.log.redirect_stdouts(self.redirect_stdouts_level)
        source = self.app._config_source
        is_django = isinstance(source, str) and source.lower() == "django.conf:settings"
        if not is_django and self.app.conf.maybe_warn_deprecated_settings():
            get_logger("celery.apps.worker").warning(_OLD_SETTINGS)

    def on_consumer_ready(self, consumer: Any) -> None:
        """Send ``worker_ready``; the runner logs the line."""
        signals.worker_ready.send(sender=consumer)

    def start_steps(self) -> None:
        """Start the application's steps, the consumer's last, and tell that the worker is ready."""
        # The callback of a start is what ``prepare_start`` and ``finish_start`` did already.
        self.blueprint.on_start = None
        self.blueprint.start(self)
        self._extra_consumers = ExtraConsumers(self.consumer)
        self._extra_consumers.start()
        self.consumer.on_ready()

    def stop_steps(self) -> None:
        """Stop the application's steps in the reverse order."""
        if self._extra_consumers is not None:
            self._extra_consumers.stop()
        self.consumer.timer.stop_repeating()
        self.blueprint.stop(self)


def make_worker(
    app: Any,
    options: dict[str, Any],
    *,
    on_request: Callable[[Any], None],
    jobs_of: Callable[[int], list[str]],
) -> Any:
    """Build the worker of an application; sends ``celeryd_init`` and ``worker_init``.

    Args:
        app: a ``celery.Celery``.
        options: the keyword arguments that Celery's command line would pass.
        on_request: called when a strategy hands a request over for execution.
        jobs_of: names the task ids that a child runs now.
    """
    program = app.Worker
    made = type(
        program.__name__,
        (WorkerFacade, program),
        {
            "__module__": program.__module__,
            "on_request": staticmethod(on_request),
            "jobs_of": staticmethod(jobs_of),
        },
    )
    return made(**options)
