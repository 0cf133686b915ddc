"""Turns result writes of Celery's own Redis backend in a child into writes of the engine.

Replaced on the backend instance of the child's main thread: the lowest write of ``_store_result`` and the read
before it, which exists to never overwrite a SUCCESS (the engine sees to that). Meta, encoding, compression and
chord code stay Celery's. Everything that reads results first waits until this child's own writes are stored.

Other threads of a task have other backend instances unless ``result_backend_thread_safe`` is set, and processes
that a task forks are not the engine's: both write through Celery's client.
"""

from __future__ import annotations

import os
from threading import get_ident
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod

from celery import states
from celery.app.task import Context
from celery.exceptions import BackendStoreError

from pyworker._native import NativeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyworker._native import ChildLink
    from pyworker.worker.tracing import MetaEncoder

_MARK = "_pyworker_writes"
_WRITERS = ("mark_as_done", "_store_result", "_get_task_meta_for", "_set_with_state")
#: What reads results, or writes what must come after them.
_READERS = (
    "get",
    "mget",
    "delete",
    "incr",
    "expire",
    "add_to_chord",
    "on_chord_part_return",
    "_save_group",
)


class ResultWriter:
    """Writes the results of one child.

    Attributes:
        sequence: the running job's sequence.
        task_id: the running job's task id; writes for other tasks are not part of the job.
        encoder: makes the meta of a success without Celery's code; None if it would not be the same.
    """

    #: Whether a success may be written as its meta, without the backend.
    stores_metas = True

    __slots__ = (
        "__weakref__",
        "_backend",
        "_is_active",
        "_is_storing",
        "_link",
        "_thread",
        "encoder",
        "sequence",
        "task_id",
    )

    def __init__(self, backend: Any, link: ChildLink) -> None:
        self.sequence = 0
        self.task_id = ""
        self.encoder: MetaEncoder | None = None
        self._backend = backend
        self._link = link
        self._thread = get_ident()
        self._is_active = True
        self._is_storing = False

    def install(self) -> None:
        """Replace the backend instance's methods; those of an earlier writer (``-P solo``) are taken away first."""
        backend = self._backend
        for name in (*_WRITERS, *_READERS) if _MARK in vars(backend) else ():
            vars(backend).pop(name, None)
        setattr(backend, _MARK, True)
        if self.encoder is not None:
            backend.mark_as_done = self._done_at_once(backend.mark_as_done, self.encoder)
        backend._store_result = self._storing(backend._store_result)
        backend._get_task_meta_for = self._unread_while_storing(backend._get_task_meta_for)
        backend._set_with_state = self._written_natively(backend._set_with_state)
        for name in _READERS:
            setattr(backend, name, self._after_flush(getattr(backend, name)))
        deactivate = WeakMethod(self.deactivate)
        os.register_at_fork(after_in_child=lambda: call_if_alive(deactivate()))

    def deactivate(self) -> None:
        """Leave everything to Celery from now on."""
        self._is_active = False

    def is_ours(self) -> bool:
        """Whether the caller is the child's main thread, the only user of the link."""
        return self._is_active and get_ident() == self._thread

    def _done_at_once(self, mark: Callable[..., Any], encoder: MetaEncoder) -> Callable[..., Any]:
        """For Celery's own tracer: most of its time for a plain task goes into the meta."""
        backend = self._backend
        prefix = backend.task_keyprefix

        def mark_as_done(
            task_id: str, result: Any, request: Any = None, store_result: bool = True, state: str = states.SUCCESS
        ) -> Any:
            meta = None
            if (
                store_result
                and task_id == self.task_id
                and type(request) is Context
                and not request.ignore_result
                and state == states.SUCCESS
                and self.is_ours()
            ):
                meta = encoder.meta(vars(request), task_id, result, encoder.date())
            if meta is None:
                return mark(task_id, result, request, store_result, state)
            self._store(self.sequence, prefix + task_id.encode(), meta.encode(), True)
            return mark(task_id, result, request, False, state) if request.chord else None

        return mark_as_done

    def _store(self, sequence: int, key: bytes, value: bytes, is_success: bool) -> None:
        try:
            self._link.store(sequence, key, value, is_success)
        except NativeError as error:
            raise BackendStoreError(str(error)) from error

    def _storing(self, store: Callable[..., Any]) -> Callable[..., Any]:
        def _store_result(*args: Any, **kwargs: Any) -> Any:
            if not self.is_ours():
                return store(*args, **kwargs)
            self._is_storing = True
            try:
                return store(*args, **kwargs)
            finally:
                self._is_storing = False

        return _store_result

    def _unread_while_storing(self, read: Callable[..., Any]) -> Callable[..., Any]:
        def _get_task_meta_for(task_id: str) -> Any:
            if self._is_storing and self.is_ours():
                return {"status": states.PENDING, "result": None}
            return read(task_id)

        return _get_task_meta_for

    def _written_natively(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def _set_with_state(key: bytes, value: Any, state: str) -> Any:
            if not (self._is_storing and self.is_ours()):
                return write(key, value, state)
            if isinstance(value, str):
                if len(value) > self._backend._MAX_STR_VALUE_SIZE:
                    raise BackendStoreError("value too large for Redis backend")
                value = value.encode()
            is_running = key == self._backend.get_key_for_task(self.task_id) if self.task_id else False
            self._store(self.sequence if is_running else 0, key, value, state == states.SUCCESS)
            return None

        return _set_with_state

    def _after_flush(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def flushed(*args: Any, **kwargs: Any) -> Any:
            if self.is_ours():
                try:
                    self._link.flush()
                except NativeError as error:
                    raise BackendStoreError(str(error)) from error
            return method(*args, **kwargs)

        return flushed


def call_if_alive(function: Callable[[], None] | None) -> None:
    """Call what a weak reference led to."""
    if function is not None:
        function()
