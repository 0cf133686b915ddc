"""The result of a task that ran here already: nothing is waited for, nothing is looked up."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyworker import states
from pyworker.current import refuse_to_block
from pyworker.exceptions import TaskRevokedError
from pyworker.result import AsyncResult

if TYPE_CHECKING:
    from pyworker.app import Celery


class EagerResult(AsyncResult[Any]):
    """What :meth:`pyworker.Task.apply` returns.

    Args:
        id: the task's id.
        ret_value: what it returned, or the exception that it raised.
        state: how it ended.
        traceback: the exception's traceback, as text.
        name: the task's name.
        app: the task's app.
    """

    __slots__ = ()

    def __init__(
        self,
        id: str,
        ret_value: Any,
        state: str,
        traceback: str | None = None,
        name: str | None = None,
        app: Celery | None = None,
    ) -> None:
        # Not the base's own: that wants an app, and there may be none any more when a result is unpickled.
        self.id = id
        self.app = app  # type: ignore[assignment]
        self._backend = None
        self._callbacks = ()
        self._graph = None
        self.task_name = name
        self.parent = None
        self.ignored = False
        self._meta = {
            "task_id": id, "result": ret_value, "status": state, "traceback": traceback, "name": name, "children": [],
        }  # fmt: skip

    @property
    def _known(self) -> dict[str, Any]:
        assert self._meta is not None
        return self._meta

    def ready(self) -> bool:
        """Always true."""
        return True

    def get(  # type: ignore[override]
        self, timeout: float | None = None, propagate: bool = True, disable_sync_subtasks: bool = True, **_others: Any
    ) -> Any:
        """Return the result at once.

        Args:
            timeout: without effect.
            propagate: raise the task's exception instead of returning it.
            disable_sync_subtasks: refuse inside a task of a worker.

        Raises:
            RuntimeError: called inside a task of a worker.
        """
        if disable_sync_subtasks:
            refuse_to_block()
        if self.state in states.PROPAGATE_STATES and propagate:
            error = self.result
            raise error if isinstance(error, BaseException) else Exception(error)
        return self.result if self.state in (states.SUCCESS, *states.PROPAGATE_STATES) else None

    wait = get  # type: ignore[assignment]

    def then(
        self, callback: Callable[[Any], Any], on_error: Callable[[BaseException], Any] | None = None, weak: bool = False
    ) -> EagerResult:
        """Call a function with this result, now."""
        callback(self)
        return self

    def forget(self) -> None:
        """Nothing is stored."""

    def revoke(self, *_args: Any, **_kwargs: Any) -> None:
        """Replace the result by ``TaskRevokedError``; nothing is cancelled, for nothing runs."""
        self._known.update(status=states.REVOKED, result=TaskRevokedError("revoked"), traceback=None)

    @property
    def supports_native_join(self) -> bool:
        """There is no store to ask for many results at once."""
        return False

    def __copy__(self) -> EagerResult:
        kind, arguments = self.__reduce__()
        made: EagerResult = kind(*arguments)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        meta = self._known
        return type(self), (self.id, meta["result"], meta["status"], meta["traceback"], self.task_name)

    def __repr__(self) -> str:
        return f"<EagerResult: {self.id}>"
