"""The configuration of an app: what was set, over what was loaded, over added defaults, over the reference.

Every change counts up ``version``, so whoever derives something from the settings (publishing plans, routes)
knows when to derive it anew, without hooks.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pyworker.conf_defaults import SETTINGS, Setting
from pyworker.exceptions import ImproperlyConfigured

_BY_NAME: dict[str, Setting] = {setting.name: setting for setting in SETTINGS}
_BY_OLD_NAME: dict[str, str] = {old: setting.name for setting in SETTINGS for old in setting.old_names}
_BY_OLD_NAME.update({"BROKER_TRANSPORT": "broker_transport", "CELERYD_LOG_LEVEL": "worker_log_level"})
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0", ""})


def _refuse(setting: Setting, value: object) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"{setting.name} must be of type {setting.kind}, got {value!r}")


def _number(setting: Setting, value: Any) -> Any:
    if isinstance(value, bool) and setting.kind == "float":
        raise _refuse(setting, value)
    if isinstance(value, str):
        try:
            value = int(value) if setting.kind == "int" else float(value)
        except ValueError:
            raise _refuse(setting, value) from None
    if setting.kind == "int" and isinstance(value, float) and value != int(value):
        raise _refuse(setting, value)
    if not isinstance(value, (int, float)):
        raise _refuse(setting, value)
    return value


def _boolean(setting: Setting, value: Any) -> Any:
    if isinstance(value, str):
        lowered = value.lower()
        if lowered not in _TRUE and lowered not in _FALSE:
            raise _refuse(setting, value)
        return lowered in _TRUE
    return value


def _checked(name: str, value: Any) -> Any:
    """Return a value as the setting wants it.

    Raises:
        ImproperlyConfigured: it cannot be that; names the setting.
    """
    setting = _BY_NAME.get(name)
    if setting is None or value is None:
        return value
    if setting.kind in ("int", "float"):
        return _number(setting, value)
    if setting.kind == "bool":
        return _boolean(setting, value)
    if setting.kind == "dict" and not isinstance(value, Mapping):
        raise _refuse(setting, value)
    return value


class Settings:
    """``app.conf``: attributes and items are settings, in lower case or by their old upper-case names."""

    def __init__(self, fixed: Mapping[str, Any] | None = None) -> None:
        own = object.__setattr__
        own(self, "version", 0)
        #: Given to the app's constructor: not touched by a later ``config_from_object``.
        own(self, "_fixed", {name: _checked(name, value) for name, value in (fixed or {}).items()})
        own(self, "_changes", {})
        own(self, "_loaded", {})
        own(self, "_added_defaults", [])
        own(self, "_pending", None)

    version: int
    _fixed: dict[str, Any]
    _changes: dict[str, Any]
    _loaded: dict[str, Any]
    _added_defaults: list[Mapping[str, Any] | Callable[[], Mapping[str, Any]]]
    _pending: Callable[[], Mapping[str, Any]] | None

    # -- reading

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no setting is called {name!r}") from None

    def __getitem__(self, name: str) -> Any:
        if self._pending is not None:
            self._load()
        key = _BY_OLD_NAME.get(name, name)
        for layer in (self._changes, self._fixed, self._loaded):
            if key in layer:
                return layer[key]
        for added in self._added_defaults:
            values = added() if callable(added) else added
            if key in values:
                return values[key]
        return _BY_NAME[key].default

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
        if self._pending is not None:
            self._load()
        return iter({**_BY_NAME, **self._loaded, **self._fixed, **self._changes})

    __iter__ = keys

    def table(self, *, with_defaults: bool = False) -> dict[str, Any]:
        """Return the settings that were given, or all, with passwords and secrets hidden: for people to see."""
        names = list(self.keys())
        given = {name for layer in (self._changes, self._fixed, self._loaded) for name in layer}
        return {name: _shown(name, self[name]) for name in names if with_defaults or name in given}

    # -- writing

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        key = _BY_OLD_NAME.get(name, name)
        self._changes[key] = _checked(key, value)
        self._changed()

    def update(self, *sources: Mapping[str, Any], **values: Any) -> None:
        """Set many settings."""
        for source in (*sources, values):
            for name, value in source.items():
                self[name] = value

    def setdefault(self, name: str, value: Any) -> Any:
        """Set a setting unless it was set or loaded; returns what it is then."""
        if name not in self._changes and name not in self._fixed and name not in self._loaded:
            self[name] = value
        return self[name]

    def add_defaults(self, source: Mapping[str, Any] | Callable[[], Mapping[str, Any]]) -> None:
        """Add a source that is asked after everything set and loaded, before the reference."""
        self._added_defaults.append(source)
        self._changed()

    # -- loading

    def load_later(self, source: Callable[[], Mapping[str, Any]]) -> None:
        """Take the settings from a source when one is first read; what was set so far is forgotten."""
        self._changes.clear()
        object.__setattr__(self, "_pending", source)
        self._changed()

    def _load(self) -> None:
        source = self._pending
        object.__setattr__(self, "_pending", None)
        if source is not None:
            loaded = {name: _checked(name, value) for name, value in source().items()}
            object.__setattr__(self, "_loaded", loaded)
            self._changed()

    def _changed(self) -> None:
        object.__setattr__(self, "version", self.version + 1)


_MISSING = object()
_SECRET = re.compile(r"API|TOKEN|KEY|SECRET|PASS|SIGNATURE", re.IGNORECASE)
_URL = re.compile(r"^([a-z0-9+.-]+://[^/@:]*):[^/@]*@", re.IGNORECASE)


def _shown(name: str, value: Any) -> Any:
    """Return what may be shown of a setting, as JSON can carry it."""
    if _SECRET.search(name) and isinstance(value, str):
        return "********"
    if isinstance(value, str):
        return _URL.sub(r"\1:********@", value)
    if isinstance(value, Mapping):
        return {str(key): _shown(str(key), each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_shown("", each) for each in value]
    return value if value is None or isinstance(value, (bool, int, float)) else repr(value)


def settings_of(source: object, namespace: str | None = None) -> dict[str, Any]:
    """Read settings from a module, object, mapping, or the name of one.

    Args:
        source: an object with settings as attributes, a mapping, or ``"module"``, ``"module:attribute"``,
            ``"package.module.attribute"``.
        namespace: only names that start with it count (``CELERY`` for ``CELERY_TASK_ROUTES``).

    Raises:
        ImproperlyConfigured: the named object does not exist.
    """
    found = _imported(source) if isinstance(source, str) else source
    items = found.items() if isinstance(found, Mapping) else _attributes(found)
    if not namespace:
        return {_canonical(name): value for name, value in items if _is_setting(name)}
    prefix = namespace.upper() + "_"
    stripped = {name[len(prefix) :]: value for name, value in items if name.upper().startswith(prefix)}
    return {name.lower(): value for name, value in stripped.items()}


def settings_of_environment(variable: str, silent: bool = False, namespace: str | None = None) -> dict[str, Any]:
    """Read settings from the module that an environment variable names."""
    name = os.environ.get(variable)
    if not name:
        if silent:
            return {}
        raise ImproperlyConfigured(f"The environment variable {variable!r} is not set: it must name the configuration")
    return settings_of(name, namespace)


def _canonical(name: str) -> str:
    return _BY_OLD_NAME.get(name, name.lower() if name.isupper() else name)


def _is_setting(name: str) -> bool:
    return not name.startswith("_") and (_canonical(name) in _BY_NAME)


def _attributes(found: object) -> list[tuple[str, Any]]:
    return [(name, getattr(found, name)) for name in dir(found) if not name.startswith("_")]


def _imported(name: str) -> object:
    module_name, _, attribute = name.partition(":")
    try:
        if attribute:
            return getattr(importlib.import_module(module_name), attribute)
        try:
            return importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            parent, _, attribute = module_name.rpartition(".")
            if not parent or error.name != module_name:
                raise
            return getattr(importlib.import_module(parent), attribute)
    except (ImportError, AttributeError) as error:
        raise ImproperlyConfigured(f"Cannot load the configuration {name!r}: {error}") from error
