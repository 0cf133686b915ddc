"""Makes ``sqlite://`` known to kombu, which looks transports up in a table of its own.

An application that imports pyworker may do so before or after kombu, and importing pyworker must not bring kombu. So
the name is put into the table at once if kombu is there, and else when ``kombu.transport`` is first imported. The
transport's module itself is loaded by kombu when a URL asks for it.
"""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

_MODULE = "kombu.transport"
_NAME = "sqlite"
_TRANSPORT = "pyworker.transport.sqlite_kombu:Transport"


class _Finder:
    """Stands in front of the finders until kombu's table has been loaded, once."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Let the next finder find the module, and add our name after it was executed."""
        if fullname != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _add(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def register() -> None:
    """Make the transport known, now or when kombu is imported."""
    module = sys.modules.get(_MODULE)
    if module is not None and hasattr(module, "TRANSPORT_ALIASES"):
        _add(module)
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _add(module: ModuleType) -> None:
    # A name that somebody else has taken stays theirs.
    module.TRANSPORT_ALIASES.setdefault(_NAME, _TRANSPORT)
