"""Whether a value is what a setting has to be, and what a text from a command line or the environment stands for."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta, tzinfo
from typing import Any

from pyworker.conf_defaults import BY_NAME, Setting
from pyworker.exceptions import ImproperlyConfigured

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0", ""})
_SEQUENCES = (list, tuple, set, frozenset)
_RATE = re.compile(r"\d+(\.\d+)?(/[smh])?")
_CHOICES: dict[str, tuple[Any, ...]] = {
    "task_protocol": (1, 2),
    "task_default_delivery_mode": (1, 2, "1", "2", "transient", "persistent"),
    "task_default_queue_type": ("classic", "quorum"),
    "task_create_missing_queue_type": ("classic", "quorum"),
    "worker_pool_start_method": ("fork", "spawn", "forkserver"),
}


def checked(name: str, value: Any) -> Any:
    """Return a value as the setting wants it; anything for a name that is no setting.

    Raises:
        ImproperlyConfigured: it cannot be that; names the setting.
    """
    setting = BY_NAME.get(name)
    if setting is None or value is None:
        return value
    choices = _CHOICES.get(name)
    if choices is not None and (isinstance(value, bool) or value not in choices):
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    check = _BY_KIND.get(setting.kind)
    return value if check is None else check(setting, value)


def _refuse(setting: Setting, value: object) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"{setting.name} must be of type {setting.kind}, got {value!r}")


def _number(setting: Setting, value: Any) -> Any:
    if isinstance(value, bool) and setting.kind != "int":
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


def _is_a(*kinds: type) -> Callable[[Setting, Any], Any]:
    """What checks for instances of some classes; truth values count as numbers nowhere."""

    def check(setting: Setting, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise _refuse(setting, value)
        return value

    return check


def _names(setting: Setting, value: Any) -> Any:
    """Several names, or one alone; from a command line, with commas."""
    if isinstance(value, str):
        return tuple(filter(None, map(str.strip, value.split(","))))
    if isinstance(value, Iterable) and not isinstance(value, (Mapping, bytes, *_SEQUENCES)):
        value = tuple(value)
    if not isinstance(value, _SEQUENCES) or not all(isinstance(name, str) for name in value):
        raise _refuse(setting, value)
    return value


def _duration(setting: Setting, value: Any) -> Any:
    return value if isinstance(value, timedelta) else _number(setting, value)


def _rate(setting: Setting, value: Any) -> Any:
    is_rate = _RATE.fullmatch(value) if isinstance(value, str) else isinstance(value, (int, float))
    if not is_rate or isinstance(value, bool):
        raise _refuse(setting, value)
    return value


_BY_KIND: dict[str, Callable[[Setting, Any], Any]] = {
    "int": _number,
    "float": _number,
    "bool": _boolean,
    "dict": _is_a(Mapping),
    # Texts, paths, classes that are named by texts elsewhere, and numbers such as ports.
    "str": _is_a(str, bytes, os.PathLike, type, int),
    "list": _is_a(*_SEQUENCES),
    "names": _names,
    "seconds": _duration,
    "rate": _rate,
    "zone": _is_a(str, tzinfo),
}
