"""Small things that tasks' modules import: names of Celery's ``celery.utils``."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from pyworker.identifiers import uuid
from pyworker.routing import direct_queue
from pyworker.worker.node_name import split_node_name

if TYPE_CHECKING:
    from pyworker.app.base import Celery

__all__ = ["cached_property", "gen_task_name", "gen_unique_id", "nodename", "nodesplit", "uuid", "worker_direct"]

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


def worker_direct(hostname: Any) -> Any:
    """Return the ``kombu.Queue`` of one worker alone (``worker_direct``), given the node's name; a queue as it is."""
    # By name: only who sends to single workers needs kombu.
    from kombu import Exchange, Queue

    if isinstance(hostname, Queue):
        return hostname
    found = direct_queue(hostname)
    return Queue(found.name, Exchange(found.exchange), routing_key=found.routing_key)
