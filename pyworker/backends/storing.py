"""What every result store of our own does alike: settings, keys, metas, when they are written, and again how often."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from pyworker import states
from pyworker.backends.base import Meta, pending
from pyworker.backends.meta import MetaCodec
from pyworker.exceptions import ImproperlyConfigured, OperationalError

if TYPE_CHECKING:
    from pyworker.app import Celery

Value = TypeVar("Value")

#: Keys that are read at once.
_BATCH = 500


class ChordCounter(Protocol):
    """Counts the parts of chords; set by the worker, which alone completes tasks."""

    def on_part(self, request: Any, state: str, result: Any) -> None:
        """Count a finished task of a header."""


class StoringBackend:
    """Stores results under ``celery-task-meta-<id>``; a subclass reads, writes and deletes the values of keys.

    Raises:
        ImproperlyConfigured: a setting is not supported.
    """

    #: What the store's client raises.
    errors: ClassVar[type[Exception]] = Exception
    task_key_prefix = "celery-task-meta-"
    group_key_prefix = "celery-taskset-meta-"

    def __init__(self, app: Celery, url: str) -> None:
        conf = app.conf
        if conf.result_failure_expires is not None:
            raise ImproperlyConfigured("result_failure_expires is not supported: failures are kept as other results")
        self.app = app
        self.url = url
        #: ``result_backend_transport_options``.
        self.options: dict[str, Any] = dict(conf.result_backend_transport_options or {})
        self.expires_s = _seconds(conf.result_expires)
        #: How long the parts of an unfinished chord are kept.
        self.chord_expires_s = (
            self.expires_s if conf.result_chord_expires is None else _seconds(conf.result_chord_expires)
        )
        #: Whether parts of a chord keep the order of its header.
        self.orders_chords = bool(self.options.get("result_chord_ordered", True))
        self.codec = MetaCodec.of(conf)
        #: May take a write instead of the store, and says whether it did: (task id, key, value, is success). Set in a
        #: worker's child, whose main thread writes through the engine.
        self.sink: Callable[[str, bytes, bytes, bool], bool] | None = None
        #: Called before anything is read: a child's own writes must be in the store by then.
        self.before_read: Callable[[], None] | None = None
        self.chord_parts: ChordCounter | None = None

    def as_uri(self, include_password: bool = False) -> str:
        """Return the store's address for people."""
        raise NotImplementedError

    def may_pass(self, error: Any) -> bool:
        """Whether what failed with this error may work a moment later."""
        raise NotImplementedError

    def call(self, operation: Callable[..., Value], *arguments: Any) -> Value:
        """Run an operation on the store; with ``result_backend_always_retry`` again while it cannot be reached.

        Raises:
            OperationalError: the store cannot be reached or refuses.
        """
        attempts = 0
        while True:
            try:
                return operation(*arguments)
            except self.errors as error:
                if not self._goes_on(error, attempts):
                    raise OperationalError(f"result store {self.as_uri()}: {error}") from error
            attempts += 1

    def _goes_on(self, error: Exception, attempts: int) -> bool:
        """Whether to try again after this many attempts; waits before it says yes, longer each time."""
        conf = self.app.conf
        if not conf.result_backend_always_retry or attempts >= conf.result_backend_max_retries:
            return False
        if not self.may_pass(error):
            return False
        longest_ms = conf.result_backend_base_sleep_between_retries_ms * 2 ** min(attempts, 30)
        longest_ms = min(longest_ms, conf.result_backend_max_sleep_between_retries_ms)
        time.sleep(random.uniform(0, longest_ms) / 1000)
        return True

    def write_result(self, key: bytes, value: bytes, is_success: bool) -> None:
        """Store a value unless a success is there."""
        raise NotImplementedError

    def write_value(self, key: str, value: bytes) -> None:
        """Store a value that is no task's result."""
        raise NotImplementedError

    def read_values(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        """Read the values of keys, in their order."""
        raise NotImplementedError

    def delete_value(self, key: str) -> None:
        """Delete a value."""
        raise NotImplementedError

    def task_key(self, task_id: str) -> str:
        """Return the key of a task's meta."""
        return self.task_key_prefix + task_id

    def group_key(self, group_id: str, ending: str = "") -> str:
        """Return a key of a group."""
        return f"{self.group_key_prefix}{group_id}{ending}"

    # -- reading

    def get_task_meta(self, task_id: str) -> Meta:
        """Read a task's meta; one that is unknown is ``PENDING``."""
        return self.get_many([task_id]).get(task_id) or pending(task_id)

    def get_many(self, task_ids: Sequence[str]) -> dict[str, Meta]:
        """Read the metas that are there."""
        if self.before_read is not None:
            self.before_read()
        found: dict[str, Meta] = {}
        for start in range(0, len(task_ids), _BATCH):
            part = task_ids[start : start + _BATCH]
            payloads = self.read_values([self.task_key(task_id) for task_id in part])
            for task_id, payload in zip(part, payloads, strict=True):
                if payload is not None:
                    found[task_id] = self.codec.decode_meta(payload)
        return found

    # -- groups

    def save_group(self, group_id: str, result: Any) -> None:
        """Store a group's structure."""
        self.write_value(self.group_key(group_id), self.codec.encode({"result": result.as_tuple()}))

    def restore_group(self, group_id: str) -> Any:
        """Return a stored group's structure, None if there is none."""
        payload = self.read_values([self.group_key(group_id)])[0]
        return None if payload is None else self.codec.decode(payload)["result"]

    def delete_group(self, group_id: str) -> None:
        """Delete a group's structure."""
        self.delete_value(self.group_key(group_id))

    # -- writing

    def forget(self, task_id: str) -> None:
        """Delete a result."""
        self.delete_value(self.task_key(task_id))

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
        if self.sink is None or not self.sink(task_id, key, value, is_success):
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


def _seconds(expires: Any) -> int | None:
    seconds = expires.total_seconds() if isinstance(expires, timedelta) else expires
    return int(seconds) if seconds else None


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
