"""Exceptions in stored results: what stands for one, and how one comes back.

Whoever can write to the result store must not be able to run code in those who read it: nothing is imported, looked up
or called but exception classes (GHSA-q4xr-rc97-m4xx shows what happens otherwise).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache
from types import ModuleType
from typing import Any

from pyworker import exceptions
from pyworker.exceptions import SecurityError

_OUR_MODULE = exceptions.__name__
_CELERYS_MODULES = frozenset({"celery.exceptions", "billiard.exceptions", "kombu.exceptions"})
#: Classes made up at the same time; names come from outside, so that they are not kept for ever.
_MADE_UP = 512
_MISSING = object()


def exception_to_stored(error: BaseException, encode: Callable[[Any], bytes]) -> dict[str, Any]:
    """Return what stands for an exception in a meta.

    Args:
        error: the exception.
        encode: raises for arguments that cannot be stored; their texts are stored instead.
    """
    kind = type(error)
    return {
        "exc_type": kind.__qualname__,
        "exc_message": tuple(_storable(value, encode) for value in error.args),
        "exc_module": kind.__module__,
    }


def _storable(value: Any, encode: Callable[[Any], bytes]) -> Any:
    try:
        encode(value)
    except Exception:
        try:
            return repr(value)
        except Exception as error:
            return f"<Unrepresentable {type(value)!r}: {error!r}>"
    return value


def exception_from_stored(stored: Any) -> BaseException | None:
    """Rebuild an exception: as its own class if that is imported here, else as one made up with its name.

    Raises:
        SecurityError: the class named is no exception.
        TypeError: what is stored, or the name in it, is of a wrong type.
        ValueError: there is no name in it.
    """
    if not stored:
        return None
    if isinstance(stored, BaseException):
        return stored
    if not isinstance(stored, dict):
        try:
            stored = dict(stored)
        except (TypeError, ValueError):
            raise TypeError(f"A stored exception must be an exception or a mapping, not {stored!r}") from None
    if "exc_type" not in stored:
        raise ValueError("Exception information must include the exception type")
    name, module, message = stored["exc_type"], stored.get("exc_module"), stored.get("exc_message", "")
    if not isinstance(name, str) or not isinstance(module, (str, type(None))):
        raise TypeError(f"The class of a stored exception must be named by texts, not by {module!r} and {name!r}")
    kind = _class_named(module, name)
    # Not isinstance(): an object may pretend to be a class.
    if not issubclass(type(kind), type) or not issubclass(kind, BaseException):
        shown = name if module is None else f"{module}.{name}"
        raise SecurityError(f"Expected an exception class, got {shown} with payload {message}")
    try:
        made = kind(*message) if isinstance(message, (tuple, list)) else kind(message)
    except Exception:
        made = None
    # A class may make something else of its arguments.
    return made if isinstance(made, BaseException) else Exception(f"{kind}({message})")


def _class_named(module: str | None, name: str) -> Any:
    """Return what a qualified name stands for in a module that is imported already; made up if there is nothing."""
    if module is None:
        return _made_up(name, __name__)
    found: Any = sys.modules.get(module)
    if found is None and module in _CELERYS_MODULES and hasattr(exceptions, name):
        found = exceptions
    if found is None:
        return _made_up(name, _OUR_MODULE)
    for part in name.split("."):
        found = _member(found, part)
        if found is _MISSING:
            return _made_up(name, _OUR_MODULE)
    return found


def _member(owner: Any, name: str) -> Any:
    """Return a member of a module or a class as it is stored there: no property, no ``__getattr__`` runs."""
    if isinstance(owner, ModuleType):
        return vars(owner).get(name, _MISSING)
    if issubclass(type(owner), type):
        return next((vars(base)[name] for base in type.mro(owner) if name in vars(base)), _MISSING)
    # Of anything else no member is a class that could have been raised.
    return owner


@lru_cache(maxsize=_MADE_UP)
def _made_up(name: str, module: str) -> type[Exception]:
    """Make a class of that name; one that Python does not take is described in the name of another."""
    try:
        return type(name, (Exception,), {"__module__": module})
    except (ValueError, UnicodeError):
        return type("UnnamedError", (Exception,), {"__module__": module, "__doc__": repr(name)})
