"""Results of tasks that were sent: one, or many."""

from __future__ import annotations

from pyworker.current import allow_join_result
from pyworker.result.async_result import AsyncResult
from pyworker.result.base import ResultBase
from pyworker.result.graph import DependencyGraph, GraphFormatter
from pyworker.result.group_result import GroupResult
from pyworker.result.result_set import ResultSet
from pyworker.result.tuples import result_from_tuple

__all__ = [
    "AsyncResult",
    "DependencyGraph",
    "GraphFormatter",
    "GroupResult",
    "ResultBase",
    "ResultSet",
    "allow_join_result",
    "result_from_tuple",
]
