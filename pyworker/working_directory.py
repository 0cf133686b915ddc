"""Modules that lie where a command was started, which a script's own ``sys.path`` does not have."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


def import_from_working_directory(name: str) -> ModuleType:
    """Import a module, those in the working directory first."""
    with _working_directory_in_path():
        return import_module(name)


@contextmanager
def _working_directory_in_path() -> Iterator[None]:
    try:
        directory = os.getcwd()
    except FileNotFoundError:
        directory = ""
    if not directory or directory in sys.path:
        yield
        return
    sys.path.insert(0, directory)
    try:
        yield
    finally:
        try:
            sys.path.remove(directory)
        except ValueError:
            pass
