"""Start a worker up to its pool, stock or ours, and print as JSON what happened in which order.

Run by ``test_start.py`` in a process of its own: ``starting.py stock|ours '{"options": {...}, "settings": {...}}'``.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
from typing import Any

from celery import Celery, bootsteps, signals
from celery.exceptions import WorkerShutdown
from celery.loaders.app import AppLoader
from kombu import Exchange, Queue

EVENTS: list[Any] = []
_SIGNALS = (
    "import_modules celeryd_init worker_init after_setup_logger after_setup_task_logger celeryd_after_setup"
    " worker_before_create_process"
)


def record(name: str, *details: Any) -> None:
    EVENTS.append([name, *details])


def watch(name: str) -> None:
    def receive(sender: Any = None, **arguments: Any) -> None:
        arguments.pop("signal")
        shown = {key: value for key, value in arguments.items() if isinstance(value, (str, int, type(None)))}
        options = sorted(arguments.get("options", ()))
        kind = type(sender).__name__ if name != "worker_before_create_process" else ""
        record(name, kind, str(sender) if isinstance(sender, str) else "", sorted(arguments), shown, options)

    getattr(signals, name).connect(receive, weak=False)


class Loader(AppLoader):  # type: ignore[misc]
    def on_worker_init(self) -> None:
        record("loader.on_worker_init")


class OwnStep(bootsteps.Step):  # type: ignore[misc]
    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        record("step.init", worker.hostname, worker.concurrency, sorted(options))
        super().__init__(worker, **options)

    def include_if(self, worker: Any) -> bool:
        record("step.include_if", type(worker.app).__name__, worker.pool is not None)
        return True

    def create(self, worker: Any) -> None:
        record("step.create")


class ConsumerStep(bootsteps.StartStopStep):  # type: ignore[misc]
    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        record("consumer_step.init", consumer.hostname, consumer.connection is None, consumer.task_consumer is None)
        super().__init__(consumer, **options)


class Stop(bootsteps.StartStopStep):  # type: ignore[misc]
    """Ends the stock worker where the pool stands and the consumer does not yet."""

    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        raise WorkerShutdown(0)


def make_app(settings: dict[str, Any]) -> Celery:
    app = Celery("starting", broker="redis://127.0.0.1:1/0", loader=Loader)
    app.conf.update(broker_connection_retry_on_startup=True, **settings)
    if settings.get("task_create_missing_queues") is False:
        app.conf.task_queues = [Queue(name, Exchange(name), name) for name in ("celery", "other")]
    app.steps["worker"].add(OwnStep)
    app.steps["consumer"].add(ConsumerStep)
    app.on_after_configure.connect(lambda sender, **_: record("on_after_configure"), weak=False)
    app.on_after_finalize.connect(lambda sender, **_: record("on_after_finalize"), weak=False)

    @app.task(name="starting.task", time_limit=9)  # type: ignore[untyped-decorator]
    def task() -> None:
        pass

    for name in _SIGNALS.split():
        if hasattr(signals, name):
            watch(name)
    return app


def describe(app: Celery, worker: Any, out: str, err: str) -> dict[str, Any]:
    hidden = {"starting.py", "pyworker"}
    banner = [line for line in out.splitlines() if "engine:" not in line and "app:" not in line and "Linux" not in line]
    return {
        "queues": list(app.amqp.queues.consume_from),
        "include": sorted(name for name in app.conf.include if name not in hidden),
        "limits": [worker.time_limit, worker.soft_time_limit, worker.concurrency, worker.prefetch_multiplier],
        # The drawing beside the text moves by the engine's line.
        "banner": [line.lstrip(" -*") for line in banner],
        "log": [line.partition("] ")[2] for line in err.splitlines() if "a line of the test" in line],
        "levels": [logging.getLogger(name).getEffectiveLevel() for name in ("", "celery", "celery.task")],
        "handlers": [type(handler).__name__ for handler in logging.getLogger().handlers],
        "stdout": type(sys.stdout).__name__,
        "environment": {key: value for key, value in os.environ.items() if key.startswith(("CELERY_LOG", "_MP_FORK"))},
    }


def start_stock(app: Celery, options: dict[str, Any]) -> Any:
    app.steps["worker"].add(Stop)
    arguments = ["worker"]
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        value = ",".join(value) if isinstance(value, list) else value
        arguments += [option] if value is True else [option, str(value)]
    workers: list[Any] = []
    signals.worker_init.connect(lambda sender, **_: workers.append(sender), weak=False)
    with contextlib.suppress(SystemExit):
        app.worker_main(arguments)
    return workers[0]


def start_ours(app: Celery, options: dict[str, Any]) -> Any:
    from pyworker.compat.celery.adapter import CeleryWorkerApp
    from pyworker.worker.protocol import WorkerOptions

    given = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    renamed = {"time_limit": "time_limit_s", "soft_time_limit": "soft_time_limit_s"}
    adapted = CeleryWorkerApp(app)
    adapted.configure(WorkerOptions(**{renamed.get(name, name): value for name, value in given.items()}))
    adapted.engine_config()
    print(adapted.banner(), file=sys.__stdout__, flush=True)
    adapted.before_pool()
    return adapted._worker


def main() -> None:
    kind, given = sys.argv[1], json.loads(sys.argv[2])
    out, err = io.StringIO(), io.StringIO()
    real_out = sys.__stdout__
    sys.stdout = sys.__stdout__ = out  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = err  # type: ignore[misc]
    try:
        app = make_app(given["settings"])
        worker = (start_ours if kind == "ours" else start_stock)(app, given["options"])
        logging.getLogger("celery.worker").warning("a line of the test")
        found = describe(app, worker, out.getvalue(), err.getvalue())
    except BaseException as error:
        found = {"error": [type(error).__name__, str(error)], "err": err.getvalue()[-200:]}
    assert real_out is not None
    real_out.write(json.dumps({"events": EVENTS, **found}))
    real_out.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
