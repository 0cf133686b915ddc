"""Finding the application that ``-A`` names, in Celery's order of search.

``proj`` may be the module ``proj`` with an attribute ``app`` or ``celery``, a package with a module ``proj.celery``,
or a module with any application in it; ``proj.celery:app`` and ``proj.app`` name the object themselves.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from pyworker.compat import is_application
from pyworker.working_directory import import_from_working_directory


def find_app(name: str) -> Any:
    """Find an application by name.

    Raises:
        ModuleNotFoundError: the module, or one that it imports, does not exist.
        AttributeError: the module has no application.
        Exception: whatever importing the module raises.
    """
    try:
        found = _symbol_by_name(name)
    except AttributeError:
        # The last part was no attribute; then it is a module that was not imported yet.
        found = import_from_working_directory(name)
    if isinstance(found, ModuleType) and ":" not in name:
        return _app_in_module(found, name)
    return found


def _app_in_module(module: ModuleType, name: str) -> Any:
    found = getattr(module, "app", None)
    if found is not None and not isinstance(found, ModuleType):
        return found
    found = getattr(module, "celery", None)
    if found is not None and not isinstance(found, ModuleType):
        return found
    if getattr(module, "__path__", None):
        try:
            return find_app(f"{name}.celery")
        except ImportError:
            pass
    for candidate in list(vars(module).values()):
        if is_application(candidate):
            return candidate
    if isinstance(found, ModuleType):
        raise AttributeError("attribute 'celery' is the celery module not the instance of celery")
    raise AttributeError(f"module {module.__name__!r} has no attribute 'celery'")


def _symbol_by_name(name: str) -> Any:
    """The object that a dotted name, or ``module:attribute``, names."""
    module_name, _, attribute = name.rpartition(":" if ":" in name else ".")
    if not module_name:
        return import_from_working_directory(attribute)
    module = import_from_working_directory(module_name)
    return getattr(module, attribute) if attribute else module
