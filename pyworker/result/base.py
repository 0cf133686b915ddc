"""What all results have in common."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pyworker.current import find_current_app
from pyworker.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from pyworker.app import Celery


class ResultBase:
    """Base of the results of one task and of many.

    Attributes:
        parent: the result of what was before, in a chain.
    """

    __slots__ = ()

    parent: Any = None


def current_app() -> Celery:
    """Return the app of results that were made without one.

    Raises:
        ImproperlyConfigured: there is none yet.
    """
    app = find_current_app()
    if app is None:
        raise ImproperlyConfigured("there is no app: make one with Celery(...) first, or pass app=")
    return app


def control_of(app: Any) -> Any:
    """Return what sends remote control commands for an app."""
    found = getattr(app, "control", None)
    return found if found is not None else import_module("pyworker.control_client").ControlClient(app)


def given(**options: Any) -> dict[str, Any]:
    """Return the options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def as_exception(error: Any) -> BaseException:
    """Return what can be raised for a stored failure."""
    return error if isinstance(error, BaseException) else Exception(error)


def result_from_tuple(stored: Any, app: Celery | None = None) -> Any:
    """Rebuild a result from what ``as_tuple()`` returned: ``((id, parent), None or [results])``."""
    if isinstance(stored, ResultBase):
        return stored
    app = app if app is not None else current_app()
    head, members = stored
    identifier, parent = head if isinstance(head, (list, tuple)) else (head, None)
    above = result_from_tuple(parent, app) if parent else None
    if members is None:
        return app.AsyncResult(identifier, parent=above)
    return app.GroupResult(identifier, [result_from_tuple(each, app) for each in members], parent=above)
