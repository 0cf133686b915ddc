"""The configuration of an app: what was set, over what was loaded, over added defaults, over the reference.

Every change counts up ``version``, so whoever derives something from the settings (publishing plans, routes)
knows when to derive it anew, without hooks.
"""

from __future__ import annotations
import __future__

import importlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

from pyworker.conf_defaults import BY_NAME, canonical, in_namespace, warn_if_unknown
from pyworker.conf_types import checked
from pyworker.exceptions import ImproperlyConfigured
from pyworker.working_directory import import_from_working_directory

#: Variables of the environment that count before everything else, as in Celery.
_ENVIRONMENT = {
    "broker_url": "CELERY_BROKER_URL",
    "broker_read_url": "CELERY_BROKER_READ_URL",
    "broker_write_url": "CELERY_BROKER_WRITE_URL",
    "result_backend": "CELERY_RESULT_BACKEND",
}
#: Names the settings' module of an app that was given no source; what ``--config`` sets, as in Celery.
_CONFIG_MODULE = "CELERY_CONFIG_MODULE"


class Settings:
    """``app.conf``: attributes and items are settings, in lower case or by their old upper-case names."""

    def __init__(self, fixed: Mapping[str, Any] | None = None) -> None:
        own = object.__setattr__
        own(self, "version", 0)
        #: Given to the app's constructor: not touched by a later ``config_from_object``.
        own(self, "_fixed", {name: checked(name, value) for name, value in (fixed or {}).items()})
        for name in self._fixed:
            warn_if_unknown(name)
        own(self, "_early", {})
        own(self, "_changes", {})
        own(self, "_loaded", {})
        own(self, "_extra", {})
        own(self, "_added_defaults", [])
        own(self, "_own_defaults", {})
        own(self, "_found", {})
        own(self, "_source", None)
        own(self, "_is_early", True)
        own(self, "_is_ready", False)
        own(self, "_lock", threading.RLock())
        own(self, "before_load", None)
        own(self, "after_load", None)

    version: int
    _fixed: dict[str, Any]
    #: Set before the settings were first read: as in Celery a later ``config_from_object`` does not touch these either.
    _early: dict[str, Any]
    #: Set since.
    _changes: dict[str, Any]
    _loaded: dict[str, Any]
    #: Values of the source that are no settings, for ``app.conf.anything``.
    _extra: Mapping[str, Any]
    _added_defaults: list[Mapping[str, Any] | Callable[[], Mapping[str, Any]]]
    _own_defaults: dict[str, dict[str, Any]]
    #: Settings that were looked up since the last change.
    _found: dict[str, Any]
    _source: Callable[[], Loaded] | None
    #: Whether the settings were never read.
    _is_early: bool
    _is_ready: bool
    _lock: threading.RLock
    #: Called around loading, which happens when a setting is first read.
    before_load: Callable[[], None] | None
    after_load: Callable[[], None] | None

    # -- life

    @property
    def is_ready(self) -> bool:
        """Whether the settings were loaded, which happens when one is first read."""
        return self._is_ready

    def hook(self, before_load: Callable[[], None], after_load: Callable[[], None]) -> None:
        """Have these called around loading."""
        object.__setattr__(self, "before_load", before_load)
        object.__setattr__(self, "after_load", after_load)

    def load(self) -> None:
        """Load the source, if there is one that is not loaded yet.

        Raises:
            ImproperlyConfigured: it cannot be loaded, or has a value that a setting cannot be.
        """
        with self._lock:
            if self._is_ready or self._is_loading:
                return
            object.__setattr__(self, "_is_loading", True)
            try:
                self._load_source()
            finally:
                object.__setattr__(self, "_is_loading", False)
        # Outside the lock: what is told may wait for other threads that read settings.
        if self.after_load is not None:
            self.after_load()

    def _load_source(self) -> None:
        if self.before_load is not None:
            self.before_load()
        source = self._source
        if source is None and os.environ.get(_CONFIG_MODULE):
            source = partial(settings_of_environment, _CONFIG_MODULE)
        if source is not None:
            found = source()
            loaded = {name: checked(name, value) for name, value in found.settings.items()}
            object.__setattr__(self, "_loaded", loaded)
            object.__setattr__(self, "_extra", found.extra)
        object.__setattr__(self, "_is_ready", True)
        object.__setattr__(self, "_is_early", False)
        self._changed()

    _is_loading = False

    # -- reading

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no setting is called {name!r}") from None

    def __getitem__(self, name: str) -> Any:
        try:
            return self._found[name]
        except KeyError:
            pass
        if not self._is_ready:
            self.load()
        # Kept before it is looked for: a change meanwhile must not be covered by what was true before it.
        kept = self._found
        key = canonical(name)
        variable = _ENVIRONMENT.get(key)
        if variable is not None and os.environ.get(variable):
            return os.environ[variable]
        value = self._look_up(key, name)
        if variable is None and self._is_ready:
            kept[name] = value
        return value

    def _look_up(self, key: str, name: str) -> Any:
        for layer in (self._changes, self._early, self._fixed, self._loaded):
            if key in layer:
                return layer[key]
        for added in self._added_defaults:
            values = added() if callable(added) else added
            if key in values:
                return values[key]
        if key in BY_NAME:
            default = BY_NAME[key].default
            # Every app its own: people add to them in place (beat_schedule).
            return self._own_defaults.setdefault(key, dict(default)) if isinstance(default, dict) else default
        return self._extra[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return a setting, or the default if nothing of that name exists."""
        try:
            return self[name]
        except KeyError:
            return default

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name, _MISSING) is not _MISSING

    def keys(self) -> Iterator[str]:
        """Names of all settings that have a value."""
        return iter({**BY_NAME, **self._set()})

    __iter__ = keys

    def values(self) -> Iterator[Any]:
        """All settings that have a value."""
        return (self[name] for name in self)

    def items(self) -> Iterator[tuple[str, Any]]:
        """Names and values of all settings that have a value."""
        return ((name, self[name]) for name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _set(self) -> dict[str, Any]:
        """What differs from the reference: everything that was loaded, given or changed."""
        if not self._is_ready:
            self.load()
        found: dict[str, Any] = {}
        for added in reversed(self._added_defaults):
            found.update(added() if callable(added) else added)
        found.update({**self._loaded, **self._fixed, **self._early, **self._changes})
        return found

    def without_defaults(self) -> dict[str, Any]:
        """Return what was set, loaded or added, without the reference's own defaults."""
        return {name: self[name] for name in self._set()}

    def value_set_for(self, name: str) -> bool:
        """Whether a setting was set, loaded or added."""
        return canonical(name) in self._set()

    def table(self, with_defaults: bool = False, censored: bool = True) -> dict[str, Any]:
        """Return the settings by name.

        Args:
            with_defaults: also those that nobody set.
            censored: mask passwords and what else has a secret's name.
        """
        names = sorted(self.keys() if with_defaults else self._set())
        found = {name: self[name] for name in names if not name.startswith("_")}
        if not censored:
            return found
        # By name: only people need it.
        mask = importlib.import_module("pyworker.conf_display").without_secrets
        return {name: mask(name, value) for name, value in found.items()}

    def humanize(self, with_defaults: bool = False, censored: bool = True) -> str:
        """Return :meth:`table` as text, a line per setting."""
        text: str = importlib.import_module("pyworker.conf_display").as_text(
            self.table(with_defaults, censored).items()
        )
        return text

    # -- writing

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        key = canonical(name)
        warn_if_unknown(key, name)
        changes = self._early if self._is_early else self._changes
        changes[key] = checked(key, value)
        self._changed()

    def update(self, *sources: Mapping[str, Any], **values: Any) -> None:
        """Set many settings."""
        for source in (*sources, values):
            for name, value in source.items():
                self[name] = value

    def setdefault(self, name: str, value: Any) -> Any:
        """Set a setting unless it was set or loaded; returns what it is then."""
        if all(name not in layer for layer in (self._changes, self._early, self._fixed, self._loaded)):
            self[name] = value
        return self[name]

    def __delitem__(self, name: str) -> None:
        """Take back a change; what was loaded, or the default, counts again.

        Raises:
            KeyError: the setting was not changed.
        """
        self.pop(name)

    def pop(self, name: str, *default: Any) -> Any:
        """Take back a change and return it; the default if the setting was not changed.

        Raises:
            KeyError: it was not changed, and there is no default.
        """
        key = canonical(name)
        value = (self._changes if key in self._changes else self._early).pop(key, *default)
        self._changed()
        return value

    def clear(self) -> None:
        """Take back all changes."""
        self._changes.clear()
        self._early.clear()
        self._changed()

    def changes(self) -> dict[str, Any]:
        """What was set on this object."""
        return {**self._early, **self._changes}

    def add_defaults(self, source: Mapping[str, Any] | Callable[[], Mapping[str, Any]]) -> None:
        """Add a source that is asked after everything set and loaded, before the reference."""
        self._added_defaults.append(source)
        self._changed()

    # -- loading

    def load_later(self, source: Callable[[], Loaded]) -> None:
        """Take the settings from a source when one is read next; what was set since the first reading is forgotten."""
        self._changes.clear()
        object.__setattr__(self, "_source", source)
        object.__setattr__(self, "_is_ready", False)
        self._changed()

    def _changed(self) -> None:
        object.__setattr__(self, "_found", {})
        object.__setattr__(self, "version", self.version + 1)


_MISSING = object()


#: What a module of settings holds beside them: modules, and ``from __future__ import annotations``.
_NO_SETTINGS = (ModuleType, type(__future__.annotations))


class Loaded(NamedTuple):
    """What a source of settings holds: settings, and the other names that it has."""

    settings: dict[str, Any]
    extra: Mapping[str, Any]


def settings_of(source: object, namespace: str | None = None) -> Loaded:
    """Read settings from a module, object, mapping, or the name of one; names that look like settings warn.

    Args:
        source: an object with settings as attributes, a mapping, or ``"module"``, ``"module:attribute"``,
            ``"package.module.attribute"``.
        namespace: only names that start with it count (``CELERY`` for ``CELERY_TASK_ROUTES``).

    Raises:
        ImproperlyConfigured: the named object does not exist.
    """
    found = _imported(source) if isinstance(source, str) else source
    items = dict(found) if isinstance(found, Mapping) else _attributes(found)
    settings: dict[str, Any] = {}
    for name, value in items.items():
        key = in_namespace(name, namespace) if namespace else canonical(name)
        if key is None:
            continue
        if key in BY_NAME or namespace:
            settings[key] = value
        if not callable(value) and not isinstance(value, _NO_SETTINGS):
            warn_if_unknown(key, name)
    if "TIME_ZONE" in items:
        # Django's own setting counts where ours is not set.
        settings.setdefault("timezone", items["TIME_ZONE"])
    return Loaded(settings, items)


def settings_of_environment(variable: str, namespace: str | None = None) -> Loaded:
    """Read settings from the module that an environment variable names.

    Raises:
        ImproperlyConfigured: the variable is not set, or the module does not exist.
    """
    name = os.environ.get(variable)
    if not name:
        raise ImproperlyConfigured(f"The environment variable {variable!r} is not set: it must name the configuration")
    return settings_of(name, namespace)


def _attributes(found: object) -> dict[str, Any]:
    return {name: getattr(found, name) for name in dir(found) if not name.startswith("_")}


def _imported(name: str) -> object:
    module_name, _, attribute = name.partition(":")
    try:
        if attribute:
            return getattr(import_from_working_directory(module_name), attribute)
        try:
            return import_from_working_directory(module_name)
        except ModuleNotFoundError as error:
            parent, _, attribute = module_name.rpartition(".")
            if not parent or error.name != module_name:
                raise
            return getattr(import_from_working_directory(parent), attribute)
    except (ImportError, AttributeError) as error:
        raise ImproperlyConfigured(f"Cannot load the configuration {name!r}: {error}") from error
