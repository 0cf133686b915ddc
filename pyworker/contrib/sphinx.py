"""Sphinx extension: tasks appear in ``automodule`` as functions, and as ``.. autotask::`` by themselves.

In ``conf.py``::

    extensions = ["sphinx.ext.autodoc", "pyworker.contrib.sphinx"]
    celery_task_prefix = "(task)"  # the default
"""

from __future__ import annotations

from inspect import signature
from typing import Any

import sphinx
from docutils import nodes
from sphinx.domains.python import PyFunction
from sphinx.ext.autodoc import FunctionDocumenter

from pyworker.task import Task


def _function_of(found: Any) -> Any:
    return getattr(found, "__wrapped__", None) if isinstance(found, Task) else None


class TaskDocumenter(FunctionDocumenter):  # type: ignore[misc]
    """Documents a task as its function, without ``self``."""

    objtype = "task"
    member_order = 11

    @classmethod
    def can_document_member(cls, member: Any, membername: str, isattr: bool, parent: Any) -> bool:
        """Whether a module's member is a task."""
        return _function_of(member) is not None

    def format_args(self, **_options: Any) -> str:
        """Return the function's parameters."""
        function = _function_of(self.object)
        if function is None:
            return ""
        found = signature(function)
        parameters = list(found.parameters.values())
        is_bound = bool(parameters) and parameters[0].name in ("self", "cls")
        return str(found.replace(parameters=parameters[1:]) if is_bound else found)

    def document_members(self, all_members: bool = False) -> None:
        """A task's members are not documented."""

    def check_module(self) -> bool:
        """Whether the task is of the module being documented."""
        function = _function_of(self.object)
        return (function is not None and function.__module__ == self.modname) or bool(super().check_module())


class TaskDirective(PyFunction):  # type: ignore[misc]
    """``.. py:task::``: a function with a prefix."""

    def get_signature_prefix(self, sig: str) -> list[Any]:
        """Return the prefix."""
        return [nodes.Text(f"{self.env.config.celery_task_prefix} ")]


def _keep_tasks(_app: Any, _what: str, _name: str, found: Any, skip: bool, _options: Any) -> bool | None:
    """Autodoc takes a task for an instance without documentation of its own."""
    return False if skip and _function_of(found) is not None else None


def setup(app: Any) -> dict[str, Any]:
    """Set the extension up."""
    app.setup_extension("sphinx.ext.autodoc")
    if sphinx.version_info >= (9,):
        # Documenters are classes only there.
        app.config.autodoc_use_legacy_class_based = True
    app.add_autodocumenter(TaskDocumenter)
    app.add_directive_to_domain("py", "task", TaskDirective)
    app.add_config_value("celery_task_prefix", "(task)", True)
    app.connect("autodoc-skip-member", _keep_tasks)
    return {"version": "1", "parallel_read_safe": True}
