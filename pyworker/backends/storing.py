"""What every result store of our own does the same way: the meta of a state, and when it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from pyworker import states

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyworker.app import Celery
    from pyworker.backends.base import Meta
    from pyworker.backends.meta import MetaCodec


class ChordCounter(Protocol):
    """Counts the parts of chords; set by the worker, which alone completes tasks."""

    def on_part(self, request: Any, state: str, result: Any) -> None:
        """Count a finished task of a header."""


class StoringBackend:
    """Stores results under ``celery-task-meta-<id>`` by :meth:`write_result`, which a subclass has."""

    app: Celery
    codec: MetaCodec
    task_key_prefix = "celery-task-meta-"
    group_key_prefix = "celery-taskset-meta-"

    def __init__(self) -> None:
        #: May take a write instead of the store, and says whether it did: (key, value, is success). Set in a worker's
        #: child, whose main thread writes through the engine.
        self.sink: Callable[[bytes, bytes, bool], bool] | None = None
        #: Called before anything is read: a child's own writes must be in the store by then.
        self.before_read: Callable[[], None] | None = None
        self.chord_parts: ChordCounter | None = None

    def write_result(self, key: bytes, value: bytes, is_success: bool) -> None:
        """Store a value unless a success is there."""
        raise NotImplementedError

    def task_key(self, task_id: str) -> str:
        """Return the key of a task's meta."""
        return self.task_key_prefix + task_id

    def store_result(
        self, task_id: str, result: Any, state: str, traceback: str | None = None, request: Any = None
    ) -> Any:
        """Store a state; a success that is stored already stays.

        Raises:
            kombu.exceptions.EncodeError: the result cannot be serialized.
            OperationalError: the store cannot be reached.
        """
        stored = self.prepared(result, state)
        value = self.codec.encode(self._meta(task_id, stored, state, traceback, request))
        key = self.task_key(task_id).encode()
        is_success = state == states.SUCCESS
        if self.sink is None or not self.sink(key, value, is_success):
            self.write_result(key, value, is_success)
        return stored

    def mark_as_done(
        self, task_id: str, result: Any, request: Any = None, store_result: bool = True, state: str = states.SUCCESS
    ) -> None:
        """Store a success and count it if it is part of a chord."""
        if store_result:
            self.store_result(task_id, result, state, request=request)
        if request is not None and request.chord:
            self.on_chord_part_return(request, state, result)

    def on_chord_part_return(self, request: Any, state: str, result: Any) -> None:
        """Count a finished task of a chord's header; the last one sends the body."""
        if self.chord_parts is not None:
            self.chord_parts.on_part(request, state, result)

    def prepared(self, result: Any, state: str) -> Any:
        """Return a result as it is stored."""
        if state in states.EXCEPTION_STATES and isinstance(result, BaseException):
            return self.codec.exception_to_stored(result)
        as_tuple = getattr(result, "as_tuple", None)
        return as_tuple() if as_tuple is not None and self.codec.serializer != "pickle" else result

    def _meta(self, task_id: str, result: Any, state: str, traceback: str | None, request: Any) -> Meta:
        children = getattr(request, "children", None) or []
        meta: Meta = {
            "status": state,
            "result": result,
            "traceback": traceback,
            "children": [child.as_tuple() for child in children],
            "date_done": self.app.now().isoformat() if state in states.READY_STATES else None,
        }
        for name, key in (("group", "group_id"), ("parent_id", "parent_id")):
            if getattr(request, name, None):
                meta[key] = getattr(request, name)
        if self.app.conf.result_extended and request is not None:
            meta.update(_extended(request))
        meta["task_id"] = task_id
        return meta


def _extended(request: Any) -> Meta:
    """What ``result_extended`` adds."""
    extended: Meta = {
        "name": request.task,
        "args": request.args,
        "kwargs": request.kwargs,
        "worker": request.hostname,
        "retries": request.retries,
        "queue": (request.delivery_info or {}).get("routing_key"),
    }
    stamps = request.stamps or {}
    if stamps:
        extended["stamped_headers"] = request.stamped_headers
        extended.update({name: stamps[name] for name in request.stamped_headers or () if name in stamps})
    return extended
