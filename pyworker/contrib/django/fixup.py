"""What an app does by itself in a Django program: when ``DJANGO_SETTINGS_MODULE`` is set.

Tasks get :class:`pyworker.contrib.django.task.DjangoTask` as base class, ``autodiscover_tasks()`` without names looks
through the installed apps, the worker sets Django up before it imports tasks, and no database connection outlives a
task or a fork.
"""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pyworker.current import task_stack
from pyworker.exceptions import FixupWarning
from pyworker.signals import import_modules, task_postrun, task_prerun, worker_init, worker_process_init

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyworker.app.base import Celery


def fixup(app: Celery) -> DjangoFixup | None:
    """Prepare an app for Django; None if Django is not installed."""
    try:
        import_module("django")
    except ModuleNotFoundError:
        warnings.warn(
            "DJANGO_SETTINGS_MODULE is set, but Django is not installed: nothing is prepared for it",
            FixupWarning,
            stacklevel=4,
        )
        return None
    return DjangoFixup(app)


class DjangoFixup:
    """Ties one app to Django."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        # As ``manage.py`` does: the project's packages are beside it.
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        if not app.has_own_task_class:
            app.task_cls = "pyworker.contrib.django.task:DjangoTask"
        self._connections: WorkerConnections | None = None
        import_modules.connect(self._set_up, sender=app)
        worker_init.connect(self._on_worker_init)

    def packages(self) -> Iterable[str]:
        """Names of the installed apps' packages."""
        return [config.name for config in import_module("django.apps").apps.get_app_configs()]

    def _set_up(self, **_signal: Any) -> None:
        import_module("django").setup()
        if not os.environ.get("CELERY_SKIP_CHECKS"):
            import_module("django.core.checks").run_checks()

    def _on_worker_init(self, sender: Any, **_signal: Any) -> None:
        if getattr(sender, "app", self._app) is self._app:
            self._connections = WorkerConnections(self._app)


class WorkerConnections:
    """Closes database connections and caches around tasks and after forks."""

    def __init__(self, app: Celery) -> None:
        #: Tasks after which connections are closed; None for every task, 0 for never (``CELERY_DB_REUSE_MAX``).
        self._reuse_max: int | None = app.conf.get("CELERY_DB_REUSE_MAX")
        self._uses = 0
        self._database: Any = import_module("django.db")
        self._cache: Any = import_module("django.core.cache")
        task_prerun.connect(self._around_task)
        task_postrun.connect(self._around_task)
        worker_process_init.connect(self._after_fork)
        self._close_database()
        self._close_caches()

    def _around_task(self, **_signal: Any) -> None:
        # An eager task is part of its caller's transaction.
        task = task_stack.top
        if task is not None and task.request.is_eager:
            return
        if not self._reuse_max or self._uses >= self._reuse_max * 2:
            self._uses = 0
            self._close_database()
        self._uses += 1

    def _after_fork(self, **_signal: Any) -> None:
        """Forget inherited connections: an orderly goodbye would end the parent's."""
        for connection in self._database.connections.all():
            if connection.connection is not None:
                with suppress(AttributeError, OSError, TypeError, self._database.InterfaceError):
                    os.close(connection.connection.fileno())
        self._close_database()
        self._close_caches()

    def _close_database(self) -> None:
        for connection in self._database.connections.all():
            try:
                connection.close()
            except self._database.InterfaceError:
                pass  # nothing is open any more
            except self._database.DatabaseError as error:
                if "closed" not in str(error) and "not connected" not in str(error):
                    raise

    def _close_caches(self) -> None:
        with suppress(AttributeError, TypeError):
            self._cache.close_caches()
