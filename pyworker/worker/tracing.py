"""Chooses the tracer: compiled into the native extension, or the same source as plain Python.

``pyworker._native`` registers the compiled module as ``pyworker._native_trace`` when it is imported.
``PYWORKER_PURE_PYTHON=1`` selects the plain one, for debugging and coverage.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pyworker.worker import trace as plain

if TYPE_CHECKING:
    from pyworker.worker import trace as chosen
elif os.environ.get("PYWORKER_PURE_PYTHON") == "1":
    chosen = plain
else:
    import sys

    import pyworker._native  # noqa: F401 - registers the compiled modules

    chosen = sys.modules["pyworker._native_trace"]

ContextStack = chosen.ContextStack
MetaEncoder = chosen.MetaEncoder
Run = chosen.Run
TaskBinding = chosen.TaskBinding
Tracer = chosen.Tracer
sendable = chosen.sendable

#: Whether the compiled tracer is in use.
IS_COMPILED = chosen is not plain
