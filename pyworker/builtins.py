"""Tasks that every app has, under the names that messages of stock clients carry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyworker.canvas.signature import maybe_signature
from pyworker.shared import share_task

if TYPE_CHECKING:
    from pyworker.app import Celery
    from pyworker.task import Task


def _add_ping(app: Celery) -> Task[..., Any]:
    def ping() -> str:
        return "pong"

    return app.task_from_function(ping, name="celery.ping")


def _add_map(app: Celery) -> Task[..., Any]:
    def xmap(task: Any, it: Any) -> list[Any]:
        run = maybe_signature(task, app=app).type
        return [run(item) for item in it]

    return app.task_from_function(xmap, name="celery.map")


def _add_starmap(app: Celery) -> Task[..., Any]:
    def xstarmap(task: Any, it: Any) -> list[Any]:
        run = maybe_signature(task, app=app).type
        return [run(*items) for items in it]

    return app.task_from_function(xstarmap, name="celery.starmap")


def _add_accumulate(app: Celery) -> Task[..., Any]:
    def accumulate(*args: Any, **kwargs: Any) -> Any:
        index = kwargs.get("index")
        return args[index] if index is not None else args

    return app.task_from_function(accumulate, name="celery.accumulate")


def _add_backend_cleanup(app: Celery) -> Task[..., Any]:
    def backend_cleanup() -> None:
        """Do nothing: every store here lets results expire by itself. Celery's scheduler sends it once a day."""

    return app.task_from_function(backend_cleanup, name="celery.backend_cleanup")


def share_builtins() -> None:
    """Make the tasks known to every app."""
    share_task("celery.ping", _add_ping)
    share_task("celery.map", _add_map)
    share_task("celery.starmap", _add_starmap)
    share_task("celery.accumulate", _add_accumulate)
    share_task("celery.backend_cleanup", _add_backend_cleanup)
