"""The result of one task."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast

from pyworker import states
from pyworker.current import app_or_default, refuse_to_block
from pyworker.exceptions import IncompleteStream, TimeoutError
from pyworker.result.base import ResultBase, as_exception, result_from_tuple, told

if TYPE_CHECKING:
    from pyworker.app import Celery
    from pyworker.backends.base import Backend, Meta
    from pyworker.publish.calls import Call, Series
    from pyworker.result.graph import DependencyGraph, GraphFormatter

Value = TypeVar("Value")


class AsyncResult(ResultBase, Generic[Value]):
    """The result of one task, wherever it runs.

    Args:
        id: the task's id.
        backend: the result store, if it is not the app's.
        task_name: the task's name, if known.
        app: the current app, if not given.
        parent: the result of the task before, in a chain.
    """

    __slots__ = (
        "__weakref__",
        "_backend",
        "_callbacks",
        "_graph",
        "_meta",
        "app",
        "id",
        "ignored",
        "parent",
        "task_name",
    )

    id: str
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
        self.app: Celery = app_or_default(app)
        self._backend = backend
        self.task_name = task_name
        self.parent: Any = parent
        #: Whether the task was sent with ``ignore_result``: there is nothing to wait for.
        self.ignored: bool | None = False
        self._meta: Meta | None = None
        self._callbacks: tuple[Callable[[Any], Any], ...] = ()
        self._graph: DependencyGraph | None = None

    @classmethod
    def of_calls(cls, calls: Sequence[Call | Series], app: Celery) -> list[AsyncResult[Any]]:
        """Return the results of calls that are about to be published: many at a time, so without the constructor."""
        made: list[AsyncResult[Any]] = []
        new = cls.__new__
        for call in calls:
            name = call.name
            for task_id in call.ids:
                result = new(cls)
                result.id = task_id
                result.app = app
                result.task_name = name
                result.ignored = False
                result._backend = result.parent = result._meta = result._graph = None
                result._callbacks = ()
                made.append(result)
        return made

    @property
    def backend(self) -> Backend:
        """Where the result is stored."""
        return self._backend if self._backend is not None else self.app.backend

    @property
    def task_id(self) -> str:
        """The task's id, by its other name."""
        return self.id

    @task_id.setter
    def task_id(self, value: str) -> None:
        self.id = value

    @property
    def supports_native_join(self) -> bool:
        """Whether the store can be asked for many results at once: always."""
        return True

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
        EXCEPTION_STATES: Any = states.EXCEPTION_STATES,
        PROPAGATE_STATES: Any = states.PROPAGATE_STATES,
    ) -> Value:
        """Wait until the task is done and return its result.

        Args:
            timeout: seconds to wait; None for as long as it takes.
            propagate: raise the task's exception instead of returning it.
            interval, no_ack, EXCEPTION_STATES: without effect here: nothing is polled.
            follow_parents: also raise what a task before this one in a chain raised.
            callback: called with the task's id and result.
            on_message: called with every state that is published while waiting.
            on_interval: called about once a second while waiting.
            disable_sync_subtasks: refuse to wait inside a task.
            PROPAGATE_STATES: the states whose results are raised.

        Raises:
            TimeoutError: the result did not come in time.
            OperationalError: the result store is gone.
            RuntimeError: called inside a task.
        """
        if self.ignored:
            return cast("Value", None)
        check = self._before_waiting(disable_sync_subtasks, follow_parents and propagate)
        if self._meta is None:
            tick = _both(check, on_interval)
            for _, meta in self.backend.wait_for([self.id], timeout_s=timeout, on_message=on_message, on_interval=tick):
                self.learn(meta)
        return self._value(propagate, callback, PROPAGATE_STATES)

    wait = get

    async def aget(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        follow_parents: bool = True,
        callback: Callable[[str, Any], Any] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> Value:
        """Wait for the result in a coroutine, without holding up its event loop; arguments as :meth:`get`.

        Raises:
            TimeoutError: the result did not come in time.
            OperationalError: the result store is gone.
            RuntimeError: called inside a task.
        """
        if self.ignored:
            return cast("Value", None)
        check = self._before_waiting(disable_sync_subtasks, follow_parents and propagate)
        if self._meta is None:
            # Only programs with an event loop load asyncio.
            awaiting = import_module("pyworker.result.awaiting")
            await awaiting.learn_all([self], timeout, check)
        return self._value(propagate, callback, states.PROPAGATE_STATES)

    def _before_waiting(self, disable_sync_subtasks: bool, follows: bool) -> Callable[[], Any] | None:
        """Refuse where waiting may block for ever; return what is to be looked at while waiting.

        A task's own failure says more than that of what was before it, so parents are not looked at first.
        """
        if disable_sync_subtasks:
            refuse_to_block()
        return self._raise_parent_error if follows and self.parent is not None else None

    def _value(self, propagate: bool, callback: Callable[[str, Any], Any] | None, raised: Any) -> Value:
        meta = self._known
        if propagate and meta["status"] in raised:
            self.throw(meta["result"], meta.get("traceback"))
        if callback is not None:
            callback(self.id, meta["result"])
        return cast("Value", meta["result"])

    def then(
        self, callback: Callable[[Any], Any], on_error: Callable[[BaseException], Any] | None = None, weak: bool = False
    ) -> AsyncResult[Value]:
        """Call a function with this result as soon as this object learns that the task is done.

        It learns it from whatever looks at the result: ``get``, ``ready``, ``state``, the ``join`` of a group.

        Args:
            callback: called with this result.
            on_error: called with the exception instead, if the task failed.
            weak: without effect.
        """

        def call(done: AsyncResult[Any]) -> None:
            meta = done._known
            if on_error is not None and meta["status"] in states.PROPAGATE_STATES:
                on_error(as_exception(meta["result"]))
            else:
                callback(done)

        if self._meta is not None:
            call(self)
        else:
            self._callbacks = (*self._callbacks, call)
        return self

    def learn(self, meta: Meta) -> None:
        """Take over a final meta that was read or announced, and call who waits for it."""
        self._meta = meta
        callbacks, self._callbacks = self._callbacks, ()
        for callback in callbacks:
            callback(self)

    @property
    def _known(self) -> Meta:
        """The meta: kept once it is final."""
        if self._meta is not None:
            return self._meta
        meta = self.backend.get_task_meta(self.id)
        if meta["status"] in states.READY_STATES:
            self.learn(meta)
        return meta

    def _raise_parent_error(self) -> None:
        parents = []
        node = self.parent
        while node is not None:
            parents.append(node)
            node = node.parent
        for parent in reversed(parents):
            parent.maybe_throw()

    def throw(self, error: Any, traceback: str | None = None) -> NoReturn:
        """Raise a stored failure; with ``task_remote_tracebacks`` and tblib, with the worker's traceback."""
        raised = as_exception(error)
        if traceback and self.app.conf.get("task_remote_tracebacks"):
            raised = raised.with_traceback(_remote_traceback(traceback))
        raise raised

    def maybe_throw(self, propagate: bool = True, callback: Callable[[str, Any], Any] | None = None) -> Any:
        """Raise the task's exception if it failed; return its result otherwise."""
        return self._value(propagate, callback, states.PROPAGATE_STATES)

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
    def date_done(self) -> datetime | None:
        """When it was done."""
        done = self._known.get("date_done")
        return datetime.fromisoformat(done.replace("Z", "+00:00")) if isinstance(done, str) else done

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

    def exists(self) -> bool:
        """Whether the store knows anything of the task; a task that has just been sent may be unknown yet."""
        return bool(self.backend.get_many([self.id]))

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

    def task_ids(self) -> str:
        """The task's id."""
        return self.id

    def revoke_by_stamped_headers(
        self,
        headers: Mapping[str, Any],
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """Tell all workers not to run tasks whose stamps match; arguments as :meth:`revoke`."""
        command = self.app.control.revoke_by_stamped_headers
        return told(command, headers, connection, terminate, signal, wait, timeout)

    # -- what follows and what was before

    def iterdeps(self, intermediate: bool = False) -> Iterator[tuple[Any, Any]]:
        """Walk this result and the results of everything its task sent: (parent, result).

        Raises:
            IncompleteStream: a task is not done (unless ``intermediate``).
        """
        pending: deque[tuple[Any, Any]] = deque([(None, self)])
        while pending:
            parent, node = pending.popleft()
            yield parent, node
            if node.ready():
                pending.extend((node, child) for child in node.children or ())
            elif not intermediate:
                raise IncompleteStream

    @property
    def graph(self) -> DependencyGraph:
        """The graph of what this task led to, built once.

        Raises:
            IncompleteStream: a task of it is not done.
        """
        if self._graph is None:
            self._graph = self.build_graph()
        return self._graph

    def build_graph(self, intermediate: bool = False, formatter: GraphFormatter | None = None) -> DependencyGraph:
        """Return the graph of what this task led to.

        Args:
            intermediate: also while some of it is not done.
            formatter: draws it; see :meth:`DependencyGraph.to_dot`.

        Raises:
            IncompleteStream: a task of it is not done.
        """
        # Few programs draw.
        drawing = import_module("pyworker.result.graph")
        graph: DependencyGraph = drawing.DependencyGraph(
            formatter=formatter or drawing.GraphFormatter(root=self.id, shape="oval")
        )
        for parent, node in self.iterdeps(intermediate=intermediate):
            graph.add_arc(node)
            if parent is not None:
                graph.add_edge(parent, node)
        return graph

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
        return (self.id, self.parent_tuple()), None

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

    def __copy__(self) -> AsyncResult[Value]:
        return type(self)(self.id, self._backend, self.task_name, self.app, self.parent)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.id, None, self.task_name, None, self.parent)


def _both(first: Callable[[], Any] | None, second: Callable[[], Any] | None) -> Callable[[], Any] | None:
    if first is None or second is None:
        return first or second

    def both() -> None:
        first()
        second()

    return both


def _remote_traceback(text: str) -> Any:
    """Rebuild a traceback; None without tblib."""
    try:
        from tblib import Traceback  # type: ignore[import-not-found]
    except ImportError:
        return None
    return Traceback.from_string(text).as_traceback()
