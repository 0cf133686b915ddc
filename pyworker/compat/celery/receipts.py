"""The line that says a task was received, for the lanes whose strategy does not run in the parent."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from celery.app import trace
from celery.utils.log import get_logger
from celery.utils.time import maybe_iso8601

from pyworker.worker.config import Lane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyworker._native import Notice
    from pyworker.worker.protocol import TaskSpec

logger = get_logger("celery.worker.strategy")


class ReceiptLog:
    """Logs receipts under the name and with the data of Celery's strategy.

    Args:
        specs: the tasks, by index.
    """

    def __init__(self, specs: Sequence[TaskSpec]) -> None:
        self._is_parent_lane = [spec.lane is Lane.PARENT for spec in specs]

    @property
    def is_wanted(self) -> bool:
        """Whether anybody would see the lines."""
        return bool(logger.isEnabledFor(logging.INFO))

    def log(self, notice: Notice) -> None:
        """Log one receipt; tasks of the parent lane are logged by their strategy."""
        index = notice.task_index
        if 0 <= index < len(self._is_parent_lane) and self._is_parent_lane[index]:
            return
        context = self._context(notice)
        logger.info(trace.LOG_RECEIVED, context, extra={"data": context})

    def _context(self, notice: Notice) -> dict[str, Any]:
        headers = json.loads(notice.headers) if notice.headers else {}
        return {
            "id": notice.task_id,
            "name": headers.get("shadow") or notice.task_name,
            "args": headers.get("argsrepr", ""),
            "kwargs": headers.get("kwargsrepr", ""),
            "eta": self._eta(headers.get("eta")),
        }

    def _eta(self, value: Any) -> Any:
        try:
            return maybe_iso8601(value)
        except (ValueError, TypeError, AttributeError):
            # The request that will be built from it says what is wrong.
            return value
