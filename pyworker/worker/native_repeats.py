"""``worker_deduplicate_successful_tasks``: a message that came back after its task succeeded is not run again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from pyworker import states
from pyworker.exceptions import BackendGetMetaError, Ignore, OperationalError, Reject
from pyworker.followups import send_followers

if TYPE_CHECKING:
    from pyworker.app import Celery
    from pyworker.task import Task

logger = logging.getLogger("celery.app.trace")


def deduplicating(app: Celery, task: Task[Any, Any], body: Callable[..., Any]) -> Callable[..., Any]:
    """Return the task's body, made to look whether a redelivered message's task has succeeded already."""

    @wraps(body)
    def run_unless_done(*args: Any, **kwargs: Any) -> Any:
        request = task.request
        if (request.delivery_info or {}).get("redelivered") and request.id:
            _refuse_repetition(app, task, request.id)
        return body(*args, **kwargs)

    return run_unless_done


def _refuse_repetition(app: Celery, task: Task[Any, Any], task_id: str) -> None:
    """End the run if there is a result: what was to follow is sent unless it was.

    Raises:
        Ignore: the task has succeeded already.
        Reject: what follows it cannot be sent now.
    """
    try:
        meta = app.backend.get_task_meta(task_id)
    except (BackendGetMetaError, OperationalError):
        # It may have succeeded or not: running twice is what late acknowledgement allows.
        return
    if meta["status"] != states.SUCCESS:
        return
    logger.info("Task %s[%s] Task already completed successfully.", task.name, task_id)
    request = task.request
    if (request.callbacks or request.chain) and not meta.get("children"):
        try:
            send_followers(app, task_id, vars(request), meta.get("result"))
        except Exception as error:
            logger.exception("Failed to send what follows the repeated task %s", task_id)
            raise Reject(error, requeue=True) from error
    raise Ignore("Task already completed successfully.")
