"""Results as plain data, and back: how groups are stored and children are remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyworker.result.base import ResultBase, current_app

if TYPE_CHECKING:
    from pyworker.app import Celery


def result_from_tuple(stored: Any, app: Celery | None = None) -> Any:
    """Rebuild a result from what ``as_tuple()`` returned: ``((id, parent), None or [results])``."""
    if isinstance(stored, ResultBase):
        return stored
    app = app if app is not None else current_app()
    head, members = stored
    identifier, parent = head if isinstance(head, (list, tuple)) else (head, None)
    above = result_from_tuple(parent, app) if parent else None
    if members is None:
        return app.AsyncResult(identifier, parent=above)
    return app.GroupResult(identifier, [result_from_tuple(each, app) for each in members], parent=above)
