"""The part of an application that concerns its settings, and what waits for them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone, tzinfo
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pyworker.canvas.signature import Signature
from pyworker.conf import Loaded, Settings, settings_of, settings_of_environment
from pyworker.dispatch import Signal
from pyworker.exceptions import ImproperlyConfigured
from pyworker.signals import import_modules

if TYPE_CHECKING:
    from pyworker.contrib.django.fixup import DjangoFixup


class Configuring:
    """Settings, their sources, time zone, periodic tasks and autodiscovery.

    Attributes:
        conf: the settings.
        on_configure: sent before the settings are loaded, which happens when one is first read.
        on_after_configure: sent when they are loaded.
        on_after_finalize: sent when every task is there.
        on_after_fork: sent in a process that was forked, before it runs tasks.
        time_source: returns seconds since the epoch; what ``now`` is made of.
    """

    conf: Settings
    time_source: Callable[[], float]

    def __init__(self, fixed: Mapping[str, Any]) -> None:
        self.conf = Settings(fixed)
        self.conf.hook(self._before_load, self._after_load)
        self.on_configure = Signal("app.on_configure")
        self.on_after_configure = Signal("app.on_after_configure", frozenset({"source"}))
        self.on_after_finalize = Signal("app.on_after_finalize")
        self.on_after_fork = Signal("app.on_after_fork")
        self.time_source = time.time
        self._lock = threading.RLock()
        self._periodic: dict[str, dict[str, Any]] = {}
        self._discoveries: list[Callable[..., None]] = []
        self._django: DjangoFixup | None = None

    @property
    def configured(self) -> bool:
        """Whether the settings were loaded."""
        return self.conf.is_ready

    def _before_load(self) -> None:
        self.on_configure.send(sender=self)

    def _after_load(self) -> None:
        with self._lock:
            waiting, self._periodic = self._periodic, {}
        self.conf.beat_schedule.update(waiting)
        self.on_after_configure.send(sender=self, source=self.conf)

    # -- sources

    def config_from_object(
        self, obj: object, silent: bool = False, force: bool = False, namespace: str | None = None
    ) -> None:
        """Load settings from a module, object or mapping, or the name of one, when one is first read.

        Args:
            obj: the source.
            silent: ignore that it does not exist.
            force: load now.
            namespace: only names that start with it.
        """

        def load() -> Loaded:
            try:
                return settings_of(obj, namespace)
            except ImproperlyConfigured:
                if silent:
                    return Loaded({}, {})
                raise

        self.conf.load_later(load)
        if force:
            self.conf.load()

    def config_from_envvar(
        self, variable_name: str, silent: bool = False, force: bool = False, namespace: str | None = None
    ) -> bool | None:
        """Load settings from the module that an environment variable names.

        Args:
            variable_name: the variable.
            silent: do nothing, and return False, if it is not set.
            force: load now, not when a setting is first read.
            namespace: only names that start with it count.

        Raises:
            ImproperlyConfigured: it is not set, or the module does not exist.
        """
        if silent and not os.environ.get(variable_name):
            return False
        loaded = settings_of_environment(variable_name, namespace)
        self.conf.load_later(lambda: loaded)
        if force:
            self.conf.load()
        return None

    def config_from_cmdline(self, argv: Iterable[str], namespace: str = "celery") -> None:
        """Set settings from arguments such as ``broker.heartbeat=10`` or, in the namespace, ``.concurrency=4``.

        Raises:
            ImproperlyConfigured: one is no ``name=value``, or its value cannot be.
        """
        for argument in argv:
            name, separator, value = argument.partition("=")
            if not separator or not name:
                raise ImproperlyConfigured(f"{argument!r} is no setting: write name=value")
            key = name.lower().replace(".", "_")
            self.conf[namespace + key if key.startswith("_") else key] = value

    def add_defaults(self, source: Mapping[str, Any] | Callable[[], Mapping[str, Any]]) -> None:
        """Add settings that count where nothing else says otherwise."""
        self.conf.add_defaults(source)

    def either(self, default_key: str, *defaults: Any) -> Any:
        """Return a setting if anything set it, else the first of the defaults that is not None."""
        if self.conf.value_set_for(default_key):
            return self.conf[default_key]
        return next((value for value in defaults if value is not None), self.conf[default_key])

    # -- time

    @property
    def timezone(self) -> tzinfo:
        """The configured time zone."""
        name = self.conf.timezone
        if isinstance(name, tzinfo):
            return name
        if not name:
            return timezone.utc if self.conf.enable_utc else datetime.now().astimezone().tzinfo or timezone.utc
        if str(name).upper() == "UTC":
            return timezone.utc
        from zoneinfo import ZoneInfo

        try:
            return ZoneInfo(str(name))
        except (KeyError, ValueError) as error:
            raise ImproperlyConfigured(f"timezone: {name!r} is not known") from error

    def now(self) -> datetime:
        """Return the present time in the configured time zone."""
        return datetime.fromtimestamp(self.time_source(), timezone.utc).astimezone(self.timezone)

    def uses_utc_timezone(self) -> bool:
        """Whether the configured time zone is UTC."""
        return str(self.timezone) == "UTC"

    # -- periodic tasks

    def add_periodic_task(
        self,
        schedule: Any,
        sig: Any,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        **options: Any,
    ) -> str:
        """Add an entry to ``beat_schedule``.

        Args:
            schedule: seconds, a ``timedelta`` or a schedule.
            sig: a signature or a task.
            args, kwargs: arguments in front of the signature's own.
            name: the entry's name, the signature's text if not given.
            options: execution options.

        Returns:
            The entry's name.
        """
        app: Any = self
        if isinstance(sig, Signature):
            made = sig.clone(tuple(args), dict(kwargs or {}))
        else:
            made = Signature(sig.name, tuple(args), dict(kwargs or {}), app=app)
        entry = {
            "schedule": schedule, "task": made.task, "args": made.args, "kwargs": made.kwargs,
            "options": {**made.options, **options},
        }  # fmt: skip
        key = name or repr(made)
        with self._lock:
            # Before the settings are loaded they must not be: the source may not be named yet.
            target = self.conf.beat_schedule if self.configured else self._periodic
            target[key] = entry
        return key

    # -- finding tasks

    def autodiscover_tasks(
        self,
        packages: Iterable[str] | Callable[[], Iterable[str]] | None = None,
        related_name: str | None = "tasks",
        force: bool = False,
    ) -> None:
        """Import the module ``tasks`` of every package when the worker imports its modules.

        Args:
            packages: names of packages, or a function that returns them; Django's installed apps if not given.
            related_name: the module's name; None for the packages themselves.
            force: import now.
        """

        def discover(**_signal: Any) -> None:
            found = packages() if callable(packages) else packages
            for package in self._packages_of_framework() if found is None else found:
                _import_related(package, related_name)

        if force:
            discover()
            return
        self._discoveries.append(discover)
        import_modules.connect(discover, sender=self)

    def _packages_of_framework(self) -> Iterable[str]:
        return self._django.packages() if self._django is not None else ()


def _import_related(package: str, related_name: str | None) -> None:
    """Import a package's module if it exists; errors inside it are raised."""
    if related_name is None:
        import_module(package)
        return
    try:
        parent = import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package or "." not in package:
            raise
        # Django names apps by their configuration's class: "shop.apps.ShopConfig".
        parent = import_module(package.rpartition(".")[0])
    wanted = f"{parent.__name__}.{related_name}"
    try:
        import_module(wanted)
    except ModuleNotFoundError as error:
        if error.name != wanted:
            raise
