"""Results of tasks that were sent: one, or many."""

from __future__ import annotations

from pyworker.current import allow_join_result
from pyworker.result.async_result import AsyncResult
from pyworker.result.base import ResultBase, result_from_tuple
from pyworker.result.group_result import GroupResult
from pyworker.result.result_set import ResultSet

__all__ = [
    "AsyncResult",
    "GroupResult",
    "ResultBase",
    "ResultSet",
    "allow_join_result",
    "result_from_tuple",
]
