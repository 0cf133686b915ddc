"""Several results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pyworker import states
from pyworker.current import app_or_default, refuse_to_block
from pyworker.result.base import ResultBase

if TYPE_CHECKING:
    from pyworker.app import Celery
    from pyworker.backends.base import Backend, Meta


class ResultSet(ResultBase):
    """Several results, which may be results of groups too.

    Args:
        results: the results.
        app: their app.
    """

    def __init__(self, results: Iterable[Any] | None = (), app: Celery | None = None, **_others: Any) -> None:
        self.results: list[Any] = results if isinstance(results, list) else list(results or ())
        self._app = app
        self._callbacks: list[Callable[[Any], Any]] = []

    @property
    def app(self) -> Celery:
        """The app of these results."""
        if self._app is None:
            self._app = self.results[0].app if self.results else app_or_default()
        return self._app

    @app.setter
    def app(self, value: Celery) -> None:
        self._app = value

    @property
    def backend(self) -> Backend:
        """Where the results are stored."""
        return self.app.backend

    @property
    def supports_native_join(self) -> bool:
        """Whether the store can be asked for many results at once."""
        return bool(self.results) and bool(self.results[0].supports_native_join)

    # -- members

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

    def discard(self, result: Any) -> None:
        """Take a result out if it is one of these."""
        try:
            self.remove(result)
        except KeyError:
            pass

    def update(self, results: Iterable[Any]) -> None:
        """Add results."""
        for result in results:
            self.add(result)

    def clear(self) -> None:
        """Take all results out."""
        self.results.clear()

    # -- looking

    def successful(self) -> bool:
        """Whether all tasks returned."""
        return all(state == states.SUCCESS for found in self._states() for state in found)

    def failed(self) -> bool:
        """Whether any task raised."""
        return any(state == states.FAILURE for found in self._states() for state in found)

    def waiting(self) -> bool:
        """Whether any task is not done."""
        return not self.ready()

    def ready(self) -> bool:
        """Whether all tasks are done."""
        is_ready = all(state in states.READY_STATES for found in self._states() for state in found)
        if is_ready:
            self._call_back()
        return is_ready

    def completed_count(self) -> int:
        """How many tasks returned."""
        return sum(all(state == states.SUCCESS for state in found) for found in self._states())

    def _states(self) -> list[list[str]]:
        """The states of each member's tasks, after one look at the store for all that are not known to be done."""
        members = [list(leaves([member])) for member in self.results]
        found: dict[int, str] = {}
        for backend, asked in by_store(leaf for member in members for leaf in member if leaf._meta is None):
            metas = backend.get_many([leaf.id for leaf in asked])
            for leaf in asked:
                meta = metas.get(leaf.id)
                found[id(leaf)] = states.PENDING if meta is None else meta["status"]
                if meta is not None and meta["status"] in states.READY_STATES:
                    leaf.learn(meta)
        return [[found.get(id(leaf)) or leaf.state for leaf in member] for member in members]

    def maybe_throw(self, callback: Callable[[str, Any], Any] | None = None, propagate: bool = True) -> None:
        """Raise the exception of the first that failed."""
        for result in self.results:
            result.maybe_throw(callback=callback, propagate=propagate)

    maybe_reraise = maybe_throw

    # -- waiting

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
    ) -> Any:
        """Wait for all tasks and return their results in order; as :meth:`join_native` where the store can."""
        join = self.join_native if self.supports_native_join else self.join
        return join(
            timeout=timeout, propagate=propagate, interval=interval, callback=callback, no_ack=no_ack,
            on_message=on_message, disable_sync_subtasks=disable_sync_subtasks, on_interval=on_interval,
        )  # fmt: skip

    def join(
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
        """Wait for one result after the other and return them in order.

        Args:
            timeout: seconds for all of them together.
            propagate: raise a task's exception instead of putting it into the list.
            interval, no_ack: without effect here.
            callback: called with each task's id and result; then nothing is collected.
            on_message: called with every state that is published while waiting.
            disable_sync_subtasks: refuse to wait inside a task.
            on_interval: called about once a second while waiting.

        Raises:
            TimeoutError: some did not come in time.
            RuntimeError: called inside a task.
        """
        if disable_sync_subtasks:
            refuse_to_block()
        deadline = None if timeout is None else time.monotonic() + timeout
        values = []
        for result in self.results:
            value = result.get(
                timeout=None if deadline is None else max(0.0, deadline - time.monotonic()), propagate=propagate,
                on_message=on_message, on_interval=on_interval, disable_sync_subtasks=False,
            )  # fmt: skip
            if callback is not None:
                callback(result.id, value)
            else:
                values.append(value)
        self._call_back()
        return values

    def join_native(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callable[[str, Any], Any] | None = None,
        no_ack: bool = True,
        on_message: Callable[[Meta], Any] | None = None,
        on_interval: Callable[[], Any] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> list[Any] | None:
        """Wait for all results at once and return them in order; arguments as :meth:`join`.

        The first failure that comes is raised. With a callback, which is called in the order in which the results
        come, None is returned.
        """
        if disable_sync_subtasks:
            refuse_to_block()
        for member in self._as_done(timeout, propagate, on_message, on_interval):
            if callback is not None:
                callback(member.id, member.get(propagate=propagate, disable_sync_subtasks=False))
        self._call_back()
        if callback is not None:
            return None
        return [result.get(propagate=propagate, disable_sync_subtasks=False) for result in self.results]

    def iterate(self, timeout: float | None = None, propagate: bool = True, interval: float = 0.5) -> Iterator[Any]:
        """Yield the values as the tasks are done; arguments as :meth:`join`."""
        for member in self._as_done(timeout, propagate, None, None):
            yield member.get(propagate=propagate)

    def iter_native(
        self,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: Callable[[Meta], Any] | None = None,
        on_interval: Callable[[], Any] | None = None,
    ) -> Iterator[tuple[str, Any]]:
        """Yield (id, meta) of the tasks as they are done; of a group in the set (id, its results)."""
        for member in self._as_done(timeout, False, on_message, on_interval):
            yield member.id, (member.results if isinstance(member, ResultSet) else member._known)

    async def aget(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        callback: Callable[[str, Any], Any] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> Any:
        """Wait in a coroutine, without holding up its event loop; arguments and result as :meth:`get`."""
        if disable_sync_subtasks:
            refuse_to_block()
        waited = [leaf for leaf in leaves(self.results) if leaf._meta is None and not leaf.ignored]
        if waited:
            # Only programs with an event loop load asyncio.
            awaiting = import_module("pyworker.result.awaiting")
            await awaiting.learn_all(waited, timeout, None, is_failure_enough=propagate)
            if propagate:
                for leaf in waited:
                    if leaf._meta is not None:
                        leaf.maybe_throw()
        return self.get(propagate=propagate, callback=callback, disable_sync_subtasks=False)

    def _as_done(
        self,
        timeout: float | None,
        propagate: bool,
        on_message: Callable[[Meta], Any] | None,
        on_interval: Callable[[], Any] | None,
    ) -> Iterator[Any]:
        """Yield the members as they are done; with ``propagate`` raise the first failure."""
        open_members: dict[int, int] = {}
        waited: dict[str, list[tuple[Any, Any]]] = {}
        for member in self.results:
            unknown = [leaf for leaf in leaves([member]) if leaf._meta is None and not leaf.ignored]
            if not unknown:
                yield member
                continue
            open_members[id(member)] = len(unknown)
            for leaf in unknown:
                waited.setdefault(leaf.id, []).append((leaf, member))
        if not waited:
            return
        for task_id, meta in _finished(
            [entries[0][0] for entries in waited.values()], timeout, on_message, on_interval
        ):
            for leaf, member in waited[task_id]:
                leaf.learn(meta)
                if propagate:
                    leaf.maybe_throw()
                open_members[id(member)] -= 1
                if not open_members[id(member)]:
                    yield member

    # -- callbacks

    def then(
        self, callback: Callable[[Any], Any], on_error: Callable[[BaseException], Any] | None = None, weak: bool = False
    ) -> ResultSet:
        """Call a function with this set as soon as it is found to be done, by ``get`` or ``ready``.

        Args:
            callback: called with this set.
            on_error, weak: without effect.
        """
        if all(leaf._meta is not None for leaf in leaves(self.results)):
            callback(self)
        else:
            self._callbacks.append(callback)
        return self

    def _call_back(self) -> None:
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    # -- ending

    def forget(self) -> None:
        """Delete the results."""
        for result in self.results:
            result.forget()

    def task_ids(self) -> list[str]:
        """The ids of all tasks, those of groups in the set included."""
        return [leaf.id for leaf in leaves(self.results)]

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
        return f"<{type(self).__name__}: [{', '.join(str(result.id) for result in self.results)}]>"


def leaves(results: Iterable[Any]) -> Iterator[Any]:
    """Yield the results of single tasks in results, those in groups included."""
    for result in results:
        if isinstance(result, ResultSet):
            yield from leaves(result.results)
        else:
            yield result


def by_store(results: Iterable[Any]) -> list[tuple[Backend, list[Any]]]:
    """Return the stores of results of single tasks, each with its results; mostly there is one."""
    stores: dict[int, tuple[Backend, list[Any]]] = {}
    for result in results:
        stores.setdefault(id(result.backend), (result.backend, []))[1].append(result)
    return list(stores.values())


def _finished(
    results: Sequence[Any],
    timeout: float | None,
    on_message: Callable[[Meta], Any] | None,
    on_interval: Callable[[], Any] | None,
) -> Iterator[tuple[str, Meta]]:
    """Yield the metas of tasks as they are done, of one store after the other."""
    deadline = None if timeout is None else time.monotonic() + timeout
    for store, asked in by_store(results):
        left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
        yield from store.wait_for(
            [result.id for result in asked], timeout_s=left_s, on_message=on_message, on_interval=on_interval
        )
