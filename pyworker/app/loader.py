"""What ``app.loader`` has: importing the modules that define tasks, and the clock."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from importlib import import_module
from typing import TYPE_CHECKING

from pyworker.signals import import_modules
from pyworker.working_directory import import_from_working_directory

if TYPE_CHECKING:
    from types import ModuleType

    from pyworker.app import Celery
    from pyworker.conf import Settings


class Loader:
    """Loads what an application is made of."""

    def __init__(self, app: Celery) -> None:
        self.app = app

    @property
    def conf(self) -> Settings:
        """The settings."""
        return self.app.conf

    @property
    def default_modules(self) -> set[str]:
        """Names of the modules that a worker imports: ``imports`` and ``include``."""
        return {*(self.conf.imports or ()), *(self.conf.include or ())}

    def import_default_modules(self, include: Iterable[str] = ()) -> list[ModuleType]:
        """Import what a worker imports, in order, discovered modules first, and take in the shared tasks.

        Modules in the working directory are found as by Celery's, whatever ``sys.path`` says.

        Args:
            include: further modules (``-I``).

        Raises:
            Exception: whatever importing one raises, found by ``autodiscover_tasks`` or named.
        """
        for _receiver, answer in import_modules.send(sender=self.app):
            if isinstance(answer, Exception):
                # A worker without some of its tasks would throw their messages away.
                raise answer
        names = dict.fromkeys((*(self.conf.imports or ()), *(self.conf.include or ()), *include))
        modules = [import_from_working_directory(name) for name in names]
        self.app.finalize()
        return modules

    def import_module(self, module: str, package: str | None = None) -> ModuleType:
        """Import a module by name."""
        return import_module(module, package)

    import_task_module = import_from_cwd = import_module

    def autodiscover_tasks(self, packages: Iterable[str], related_name: str | None = "tasks") -> None:
        """Import the tasks of packages when the app imports its modules."""
        self.app.autodiscover_tasks(list(packages), related_name)

    def now(self, utc: bool = True) -> datetime:
        """Return the present time, in UTC or in the app's zone."""
        moment = datetime.now(timezone.utc)
        return moment if utc else moment.astimezone(self.app.timezone)
