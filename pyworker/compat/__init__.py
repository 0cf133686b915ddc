"""Which library an application comes from, decided in one place.

celery is optional: nothing of it may be imported unless the application is one of its own. That is why the two
modules that need it are imported here by name, at run time, and nowhere else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from pyworker.exceptions import PyworkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

    from pyworker.operations.protocol import Operations
    from pyworker.worker.protocol import WorkerApp

_CELERY_APP_CLASS = ("celery.app.base", "Celery")
_OWN_APP_CLASS = ("pyworker.app.base", "Celery")


class NotAnApplication(PyworkerError):
    """The object that ``-A`` names is not an application of either library."""


def adapt(app: object) -> WorkerApp:
    """The worker's view of an application.

    Raises:
        NotAnApplication: the object is neither a ``celery.Celery`` nor one of ours.
    """
    return cast(
        "WorkerApp",
        _view(
            app, ("pyworker.compat.celery.adapter", "CeleryWorkerApp"), ("pyworker.worker.native", "NativeWorkerApp")
        ),
    )


def operate(app: object) -> Operations:
    """An application under the hands of its operator.

    Raises:
        NotAnApplication: the object is neither a ``celery.Celery`` nor one of ours.
    """
    return cast(
        "Operations",
        _view(
            app,
            ("pyworker.compat.celery.operations", "CeleryOperations"),
            ("pyworker.operations.own", "OwnOperations"),
        ),
    )


def _view(app: object, of_celerys: tuple[str, str], of_ours: tuple[str, str]) -> Any:
    """Return what shows an application, made by the class (module, name) for its library."""
    for app_class, (module, name) in ((_CELERY_APP_CLASS, of_celerys), (_OWN_APP_CLASS, of_ours)):
        if _is_instance(app, app_class):
            return getattr(import_module(module), name)(app)
    raise NotAnApplication(f"{app!r} is not a Celery application")


def install() -> None:
    """Have Celery's own worker commands of this process run on our engine.

    For programs that start a worker themselves: ``celery worker``, ``app.worker_main()``, management commands. To be
    called before the worker is made; the environment variable ``PYWORKER=1`` does the same for whatever uses Celery's
    command line. Idempotent.

    Raises:
        ModuleNotFoundError: celery is not installed.
    """
    import_module("pyworker.compat.celery.takeover").install()


def is_application(candidate: object) -> bool:
    """Whether an object is an application of either library; finding out imports nothing."""
    return _is_instance(candidate, _CELERY_APP_CLASS) or _is_instance(candidate, _OWN_APP_CLASS)


def is_own_application(candidate: object) -> bool:
    """Whether an object is an application of our own library."""
    return _is_instance(candidate, _OWN_APP_CLASS)


def default_application() -> Any:
    """The application used without ``-A``: celery's current one, configured by its default loader.

    Raises:
        NotAnApplication: celery is not installed, so there is none.
    """
    try:
        state = import_module("celery._state")
    except ModuleNotFoundError as error:
        raise NotAnApplication("no application given: use -A/--app to name one") from error
    return state.get_current_app()


def remote_debugger() -> Callable[[FrameType | None], None] | None:
    """Celery's network debugger, if celery is installed."""
    try:
        module = import_module("celery.contrib.rdb")
    except ModuleNotFoundError:
        return None
    return cast("Callable[[FrameType | None], None]", module.set_trace)


def announce_preload_options(app: object, sender: object, options: Mapping[str, Any]) -> None:
    """Tell an application the options that it declared for every command (``user_preload_options``)."""
    if options and _is_instance(app, _CELERY_APP_CLASS):
        import_module("celery.signals").user_preload_options.send(sender=sender, app=app, options=dict(options))


def is_security_error(error: Exception) -> bool:
    """Whether celery refuses to run for security reasons (as root with pickle, an unsigned message store)."""
    return _is_instance(error, ("celery.exceptions", "SecurityError"))


def _is_instance(candidate: object, class_name: tuple[str, str]) -> bool:
    # ``__class__`` and not ``type()``: celery's ``current_app`` is a proxy that answers for its application.
    try:
        bases = candidate.__class__.__mro__
    except Exception:  # a proxy without an object behind it
        return False
    return any((base.__module__, base.__name__) == class_name for base in bases)
