"""Small things that tasks' modules import: names of Celery's ``celery.utils``."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from pyworker.identifiers import uuid
from pyworker.worker.node_name import split_node_name

if TYPE_CHECKING:
    from pyworker.app.base import Celery

__all__ = ["cached_property", "gen_task_name", "gen_unique_id", "nodename", "nodesplit", "uuid"]

#: The name of Celery 2.
gen_unique_id = uuid


def gen_task_name(app: Celery, name: str, module_name: str) -> str:
    """Return a task's name from its function's name and module."""
    return app.gen_task_name(name, module_name)


def nodename(name: str, hostname: str) -> str:
    """Return the name of a node: ``name@hostname``."""
    return f"{name}@{hostname}"


def nodesplit(name: str) -> tuple[str | None, str]:
    """Return what is before and after the ``@`` of a node's name."""
    return split_node_name(name)
