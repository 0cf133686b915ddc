"""Results of tasks that were sent: one, or many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from pyworker import states
from pyworker.current import allow_join_result, find_current_app, refuse_to_block
from pyworker.exceptions import ImproperlyConfigured, IncompleteStream, TimeoutError

if TYPE_CHECKING:
    from pyworker.app import Celery
    from pyworker.backends.base import Backend, Meta

__all__ = ["AsyncResult", "GroupResult", "ResultBase", "ResultSet", "allow_join_result", "result_from_tuple"]

Value = TypeVar("Value")


class ResultBase:
    """What all results have in common."""

    __slots__ = ()


class AsyncResult(ResultBase, Generic[Value]):
    """The result of one task, wherever it runs.

    Args:
        id: the task's id.
        backend: the result store, if it is not the app's.
        task_name: the task's name, if known.
        app: the current app, if not given.
        parent: the result of the task before, in a chain.
    """

    __slots__ = ("_backend", "_meta", "app", "id", "ignored", "parent", "task_name")

    TimeoutError = TimeoutError

    def __init__(
        self,
        id: str,
        backend: Backend | None = None,
        task_name: str | None = None,
        app: Celery | None = None,
        parent: ResultBase | None = None,
    ) -> None:
        if id is None:
            raise ValueError(f"AsyncResult requires valid id, not {type(id)}")
        self.id = id
        self.app = app if app is not None else _current_app()
        self._backend = backend
        self.task_name = task_name
        self.parent: Any = parent
        #: Whether the task was sent with ``ignore_result``: there is nothing to wait for.
        self.ignored: bool | None = False
        self._meta: Meta | None = None

    @property
    def backend(self) -> Backend:
        """Where the result is stored."""
        return self._backend if self._backend is not None else self.app.backend

    @property
    def task_id(self) -> str:
        """The task's id, by its other name."""
        return self.id

    # -- waiting

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        no_ack: bool = True,
        follow_parents: bool = True,
        callback: Callable[[str, Any], Any] | None = None,
        on_message: Callable[[Meta], Any] | None = None,
        on_interval: Callable[[], Any] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> Value:
        """Wait until the task is done and return its result.

        Args:
            timeout: seconds to wait; None for as long as it takes.
            propagate: raise the task's exception instead of returning it.
            interval, no_ack: without effect here.
            follow_parents: also raise what a task before this one in a chain raised.
            callback: called with the task's id and result.
            on_message: called with every state that is published while waiting.
            on_interval: called about once a second while waiting.
            disable_sync_subtasks: refuse to wait inside a task.

        Raises:
            TimeoutError: the result did not come in time.
            RuntimeError: called inside a task.
        """
        if self.ignored:
            return cast("Value", None)
        if disable_sync_subtasks:
            refuse_to_block()
        follows = follow_parents and propagate and self.parent is not None
        if self._meta is None:
            # A task's own failure says more than that of what was before it, so parents are looked at while waiting.
            tick = _both(self._raise_parent_error if follows else None, on_interval)
            for _, meta in self.backend.wait_for([self.id], timeout_s=timeout, on_message=on_message, on_interval=tick):
                self._meta = meta
        if propagate:
            self.maybe_throw(callback=callback)
        elif callback is not None:
            callback(self.id, self._known["result"])
        return cast("Value", self._known["result"])

    wait = get

    @property
    def _known(self) -> Meta:
        """The meta: kept once it is final."""
        if self._meta is not None:
            return self._meta
        meta = self.backend.get_task_meta(self.id)
        if meta["status"] in states.READY_STATES:
            self._meta = meta
        return meta

    def _raise_parent_error(self) -> None:
        node = self.parent
        while node is not None:
            node.maybe_throw()
            node = getattr(node, "parent", None)

    def maybe_throw(self, propagate: bool = True, callback: Callable[[str, Any], Any] | None = None) -> Any:
        """Raise the task's exception if it failed; return its result otherwise."""
        meta = self._known
        if propagate and meta["status"] in states.PROPAGATE_STATES:
            raise _raisable(meta["result"])
        if callback is not None:
            callback(self.id, meta["result"])
        return meta["result"]

    maybe_reraise = maybe_throw

    # -- looking

    @property
    def state(self) -> str:
        """The task's state; ``PENDING`` also for an unknown id."""
        return cast("str", self._known["status"])

    status = state

    @property
    def result(self) -> Any:
        """The return value, the exception, or what a state was stored with."""
        return self._known["result"]

    info = result

    @property
    def traceback(self) -> str | None:
        """The traceback of a failed task, as text."""
        return self._known.get("traceback")

    @property
    def children(self) -> list[Any] | None:
        """Results of the tasks that this one sent."""
        children = self._known.get("children")
        return None if children is None else [result_from_tuple(child, self.app) for child in children]

    @property
    def date_done(self) -> Any:
        """When it was done, as text."""
        return self._known.get("date_done")

    @property
    def retries(self) -> int | None:
        """How often it was tried again (with ``result_extended``)."""
        return self._known.get("retries")

    @property
    def name(self) -> str | None:
        """The task's name (with ``result_extended``)."""
        return self._known.get("name")

    @property
    def args(self) -> Any:
        """The arguments (with ``result_extended``)."""
        return self._known.get("args")

    @property
    def kwargs(self) -> Any:
        """The keyword arguments (with ``result_extended``)."""
        return self._known.get("kwargs")

    @property
    def worker(self) -> str | None:
        """The worker that ran it (with ``result_extended``)."""
        return self._known.get("worker")

    @property
    def queue(self) -> str | None:
        """The queue it came from (with ``result_extended``)."""
        return self._known.get("queue")

    def ready(self) -> bool:
        """Whether the task is done."""
        return self.state in states.READY_STATES

    def successful(self) -> bool:
        """Whether the task returned."""
        return self.state == states.SUCCESS

    def failed(self) -> bool:
        """Whether the task raised."""
        return self.state == states.FAILURE

    def forget(self) -> None:
        """Delete the result, and those of the tasks before it."""
        self._meta = None
        if self.parent is not None:
            self.parent.forget()
        self.backend.forget(self.id)

    # -- what follows and what was before

    def iterdeps(self, intermediate: bool = False) -> Iterator[tuple[Any, Any]]:
        """Walk this result and the results of everything its task sent: (parent, result).

        Raises:
            IncompleteStream: a task is not done (unless ``intermediate``).
        """
        pending: list[tuple[Any, Any]] = [(None, self)]
        while pending:
            parent, node = pending.pop(0)
            yield parent, node
            if node.ready():
                pending.extend((node, child) for child in node.children or ())
            elif not intermediate:
                raise IncompleteStream

    def collect(self, intermediate: bool = False, **options: Any) -> Iterator[tuple[Any, Any]]:
        """Walk like :meth:`iterdeps`, yielding (result, value)."""
        for _, node in self.iterdeps(intermediate=intermediate):
            yield node, node.get(**options)

    def get_leaf(self) -> Any:
        """Return the value of the last task that this one led to."""
        value = None
        for _, node in self.iterdeps():
            value = node.get()
        return value

    def as_tuple(self) -> tuple[Any, Any]:
        """Return ids as plain data: ``((id, parent), None)``."""
        return (self.id, self.parent.as_tuple() if self.parent is not None else None), None

    def as_list(self) -> list[str]:
        """Return the ids of this task and those before it."""
        return [self.id, *(self.parent.as_list() if self.parent is not None else [])]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AsyncResult):
            return other.id == self.id
        return other == self.id if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return str(self.id)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.id}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.id, None, self.task_name, None, self.parent)


class ResultSet(ResultBase):
    """Several results."""

    def __init__(self, results: Iterable[Any], app: Celery | None = None) -> None:
        self.results: list[Any] = list(results)
        self._app = app

    @property
    def app(self) -> Celery:
        """The app of these results."""
        if self._app is None:
            self._app = self.results[0].app if self.results else _current_app()
        return self._app

    @property
    def backend(self) -> Backend:
        """Where the results are stored."""
        return self.app.backend

    @property
    def children(self) -> list[Any]:
        """The results."""
        return self.results

    def add(self, result: Any) -> None:
        """Add a result unless it is one of these."""
        if result not in self.results:
            self.results.append(result)

    def remove(self, result: Any) -> None:
        """Take a result out, given itself or its id.

        Raises:
            KeyError: it is none of these.
        """
        if isinstance(result, str):
            result = self.app.AsyncResult(result)
        try:
            self.results.remove(result)
        except ValueError:
            raise KeyError(result) from None

    def update(self, results: Iterable[Any]) -> None:
        """Add results."""
        for result in results:
            self.add(result)

    def clear(self) -> None:
        """Take all results out."""
        self.results.clear()

    def successful(self) -> bool:
        """Whether all tasks returned."""
        return all(result.successful() for result in self.results)

    def failed(self) -> bool:
        """Whether any task raised."""
        return any(result.failed() for result in self.results)

    def waiting(self) -> bool:
        """Whether any task is not done."""
        return any(not result.ready() for result in self.results)

    def ready(self) -> bool:
        """Whether all tasks are done."""
        return all(result.ready() for result in self.results)

    def completed_count(self) -> int:
        """How many tasks returned."""
        return sum(int(result.successful()) for result in self.results)

    def maybe_throw(self, callback: Callable[[str, Any], Any] | None = None, propagate: bool = True) -> None:
        """Raise the exception of the first that failed."""
        for result in self.results:
            result.maybe_throw(callback=callback, propagate=propagate)

    maybe_reraise = maybe_throw

    def forget(self) -> None:
        """Delete the results."""
        for result in self.results:
            result.forget()

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callable[[str, Any], Any] | None = None,
        no_ack: bool = True,
        on_message: Callable[[Meta], Any] | None = None,
        disable_sync_subtasks: bool = True,
        on_interval: Callable[[], Any] | None = None,
    ) -> list[Any]:
        """Wait for all tasks and return their results in order; arguments as :meth:`AsyncResult.get`."""
        if disable_sync_subtasks:
            refuse_to_block()
        self._await(timeout, on_message, on_interval, propagate)
        values = []
        for result in self.results:
            values.append(result.get(propagate=propagate, disable_sync_subtasks=False))
            if callback is not None:
                callback(result.id, values[-1])
        return values

    join = join_native = get

    def _await(self, timeout: float | None, on_message: Any, on_interval: Any, propagate: bool) -> None:
        """Wait for every single task below; with ``propagate`` only until the first failure."""
        waited = {result.id: result for result in _leaves(self.results) if result._meta is None and not result.ignored}
        if not waited:
            return
        backend = next(iter(waited.values())).backend
        for task_id, meta in backend.wait_for(
            list(waited), timeout_s=timeout, on_message=on_message, on_interval=on_interval
        ):
            waited[task_id]._meta = meta
            if propagate:
                waited[task_id].maybe_throw()

    def iter_native(
        self,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: Callable[[Meta], Any] | None = None,
        on_interval: Callable[[], Any] | None = None,
    ) -> Iterator[tuple[str, Meta]]:
        """Yield (id, meta) of the tasks as they are done."""
        ids = [result.id for result in _leaves(self.results)]
        return self.backend.wait_for(ids, timeout_s=timeout, on_message=on_message, on_interval=on_interval)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.results)

    def __getitem__(self, index: int) -> Any:
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)

    def __eq__(self, other: object) -> bool:
        return other.results == self.results if isinstance(other, ResultSet) else NotImplemented

    def __hash__(self) -> int:
        raise TypeError(f"unhashable type: {type(self).__name__!r}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: [{', '.join(str(result) for result in self.results)}]>"


class GroupResult(ResultSet):
    """The results of a group's tasks.

    Args:
        id: the group's id.
        results: one result per task.
        parent: the result of what was before, in a chain.
    """

    def __init__(
        self, id: str | None = None, results: Iterable[Any] = (), parent: Any = None, app: Celery | None = None
    ) -> None:
        super().__init__(results, app)
        self.id = id
        self.parent = parent

    def save(self, backend: Backend | None = None) -> None:
        """Store the group's structure, for :meth:`restore`."""
        (backend or self.backend).save_group(str(self.id), self)

    def delete(self, backend: Backend | None = None) -> None:
        """Delete the stored structure."""
        (backend or self.backend).delete_group(str(self.id))

    @classmethod
    def restore(cls, id: str, backend: Backend | None = None, app: Celery | None = None) -> Any:
        """Return a stored group, None if there is none of that id."""
        app = app if app is not None else _current_app()
        stored = (backend or app.backend).restore_group(id)
        return None if stored is None else result_from_tuple(stored, app)

    def as_tuple(self) -> tuple[Any, Any]:
        """Return ids as plain data: ``((id, parent), [results])``."""
        parent = self.parent.as_tuple() if self.parent is not None else None
        return (self.id, parent), [result.as_tuple() for result in self.results]

    def as_list(self) -> list[str]:
        """Return the ids of the group and of what was before."""
        return [str(self.id), *(self.parent.as_list() if self.parent is not None else [])]

    def forget(self) -> None:
        """Delete the results and what was before."""
        super().forget()
        if self.parent is not None:
            self.parent.forget()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, GroupResult):
            return other.id == self.id and other.results == self.results and other.parent == self.parent
        return other == self.id if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return str(self.id)

    def __repr__(self) -> str:
        return f"<GroupResult: {self.id} [{', '.join(str(result) for result in self.results)}]>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.id, self.results, self.parent)


def result_from_tuple(stored: Any, app: Celery | None = None) -> Any:
    """Rebuild a result from :meth:`AsyncResult.as_tuple`."""
    if isinstance(stored, ResultBase):
        return stored
    app = app if app is not None else _current_app()
    head, children = stored
    identifier, parent = head if isinstance(head, (list, tuple)) else (head, None)
    above = result_from_tuple(parent, app) if parent else None
    if children is not None:
        return app.GroupResult(identifier, [result_from_tuple(child, app) for child in children], parent=above)
    return app.AsyncResult(identifier, parent=above)


def _leaves(results: Sequence[Any]) -> Iterator[AsyncResult[Any]]:
    for result in results:
        if isinstance(result, ResultSet):
            yield from _leaves(result.results)
        else:
            yield result


def _both(first: Callable[[], Any] | None, second: Callable[[], Any] | None) -> Callable[[], Any] | None:
    if first is None or second is None:
        return first or second

    def both() -> None:
        first()
        second()

    return both


def _raisable(error: Any) -> BaseException:
    return error if isinstance(error, BaseException) else Exception(error)


def _current_app() -> Celery:
    app = find_current_app()
    if app is None:
        raise ImproperlyConfigured("there is no app: make one with Celery(...) first, or pass app=")
    return app
