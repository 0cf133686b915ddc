"""One application for both libraries: ``TEST_LIBRARY`` says whose API defines the tasks.

With ``TEST_WITHOUT_CELERY`` the process cannot import celery or what only celery needs.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from types import SimpleNamespace
from typing import Any

if os.environ.get("TEST_WITHOUT_CELERY"):
    for missing in ("celery", "billiard"):
        sys.modules[missing] = None  # type: ignore[assignment]


class Surprise(Exception):
    """An exception of the application's own."""


def make(library: Any, broker: str, backend: str) -> SimpleNamespace:
    """Define the application with a library: ``pyworker`` or ``celery``."""
    app = library.Celery("own_api", broker=broker, backend=backend, set_as_current=False)
    app.conf.broker_connection_retry_on_startup = True
    names = SimpleNamespace(app=app, library=library)
    define = {"shared": False}

    @app.task(name="own.add", **define)
    def add(x: Any, y: Any) -> Any:
        return x + y

    @app.task(name="own.mul", **define)
    def mul(x: Any, y: Any) -> Any:
        return x * y

    @app.task(name="own.total", **define)
    def total(values: Any) -> Any:
        return sum(values)

    @app.task(name="own.echo", **define)
    def echo(*args: Any, **kwargs: Any) -> Any:
        return [args, kwargs]

    @app.task(name="own.fail", **define)
    def fail(text: str = "no") -> None:
        raise Surprise(text, 1)

    @app.task(name="own.flaky", bind=True, max_retries=3, **define)
    def flaky(self: Any, succeeds_at: int) -> int:
        if self.request.retries < succeeds_at:
            raise self.retry(countdown=0, exc=Surprise("not yet"))
        return int(self.request.retries)

    @app.task(name="own.auto", autoretry_for=(Surprise,), retry_backoff=False, default_retry_delay=0, bind=True,
              retry_kwargs={"max_retries": 2, "countdown": 0}, **define)  # fmt: skip
    def auto(self: Any) -> int:
        if self.request.retries < 2:
            raise Surprise("again")
        return int(self.request.retries)

    @app.task(name="own.request", bind=True, **define)
    def request(self: Any, *names: str) -> Any:
        return {name: getattr(self.request, name) for name in names}

    @app.task(name="own.progress", bind=True, **define)
    def progress(self: Any) -> str:
        self.update_state(state="PROGRESS", meta={"done": 50})
        return "done"

    @app.task(name="own.parent", bind=True, **define)
    def parent(self: Any) -> str:
        return str(self.app.tasks["own.add"].delay(1, 2).id)

    @app.task(name="own.replaced", bind=True, **define)
    def replaced(self: Any, x: int) -> Any:
        return self.replace(self.app.tasks["own.add"].s(x, 1000))

    @app.task(name="own.ignored", ignore_result=True, **define)
    def ignored() -> int:
        return 1

    @app.task(name="own.slow", soft_time_limit=1, time_limit=20, **define)
    def slow() -> str:
        import threading

        threading.Event().wait(15)
        return "never"

    @app.task(name="own.aside", bind=True, **define)
    def aside(self: Any) -> str:
        """Write a state from a thread and from a forked process, which are not the child's main thread."""
        import threading

        def write(state: str) -> None:
            self.backend.store_result(self.request_id, "aside", state)

        self.request_id = self.request.id
        thread = threading.Thread(target=write, args=("FROM_THREAD",))
        thread.start()
        thread.join()
        process = os.fork()
        if process == 0:
            write("FROM_PROCESS")
            os._exit(0)
        return str(os.waitpid(process, 0)[1])

    @app.task(name="own.limited", rate_limit="10/s", **define)
    def limited() -> float:
        return time.time()

    @app.task(name="own.exit", **define)
    def leave() -> None:
        os._exit(3)

    for task in (
        add,
        mul,
        total,
        echo,
        fail,
        flaky,
        auto,
        request,
        progress,
        parent,
        replaced,
        ignored,
        slow,
        leave,
        aside,
        limited,
    ):
        setattr(names, task.name.partition(".")[2], task)
    return names


if "TEST_BROKER_URL" in os.environ:
    app = make(
        importlib.import_module(os.environ.get("TEST_LIBRARY", "pyworker")),
        os.environ["TEST_BROKER_URL"],
        os.environ["TEST_RESULT_BACKEND"],
    ).app
