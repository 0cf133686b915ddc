"""Results in Redis, in Celery's layout: ``celery-task-meta-<id>`` keys, published under the same name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

import redis

from pyworker import states
from pyworker.backends.async_waiting import AsyncWaiting
from pyworker.backends.base import Meta, pending
from pyworker.backends.meta import MetaCodec
from pyworker.backends.redis_client import connect, connect_async
from pyworker.backends.waiting import Waiting
from pyworker.exceptions import ImproperlyConfigured, OperationalError
from pyworker.transport.redis_settings import result_address
from pyworker.transport.redis_url import without_password

if TYPE_CHECKING:
    from pyworker.app import Celery

_BATCH = 500
_PREFIX_ENDINGS = ":_-."


class ChordCounter(Protocol):
    """Counts the parts of chords; :class:`pyworker.backends.chords.ChordParts`."""

    def on_part(self, request: Any, state: str, result: Any) -> None:
        """Count a finished task of a header."""


class RedisBackend:
    """A result store on one Redis server; safe across threads and forks.

    Raises:
        ImproperlyConfigured: the URL or a setting is not usable.
    """

    def __init__(self, app: Celery, url: str) -> None:
        conf = app.conf
        self.app = app
        self.url = url
        options = dict(conf.result_backend_transport_options or {})
        if conf.result_failure_expires is not None:
            raise ImproperlyConfigured("result_failure_expires is not supported yet")
        self.address = result_address(conf, url)
        prefix = str(options.get("global_keyprefix") or "")
        if prefix and prefix[-1] not in _PREFIX_ENDINGS:
            prefix += "_"
        self.task_key_prefix = f"{prefix}celery-task-meta-"
        self.group_key_prefix = f"{prefix}celery-taskset-meta-"
        self.expires_s = _seconds(conf.result_expires)
        #: Whether parts of a chord keep the order of its header.
        self.orders_chords = bool(options.get("result_chord_ordered", True))
        self.codec = MetaCodec(
            conf.result_serializer, conf.result_compression, conf.result_accept_content or conf.accept_content
        )
        self.client = connect(
            self.address, conf.redis_max_connections, retry_on_timeout=bool(conf.redis_retry_on_timeout)
        )
        #: May take a write instead of the server, and says whether it did: (key, value, is success). Set in a worker's
        #: child, whose main thread writes through the engine.
        self.sink: Callable[[bytes, bytes, bool], bool] | None = None
        #: Called before anything is read: a child's own writes must be in the store by then.
        self.before_read: Callable[[], None] | None = None
        #: Counts chords' parts; set by the worker, which alone completes tasks.
        self.chord_parts: ChordCounter | None = None
        self._waiting = Waiting(self)
        self._async_waiting: AsyncWaiting | None = None
        self._lock = threading.Lock()

    def as_uri(self, include_password: bool = False) -> str:
        """Return the URL, without its password unless wanted."""
        return self.url if include_password else without_password(self.url)

    # -- reading

    def task_key(self, task_id: str) -> str:
        """Return the key, and channel, of a task's meta."""
        return self.task_key_prefix + task_id

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
            payloads = self.call(self.client.mget, [self.task_key(task_id) for task_id in part])
            for task_id, payload in zip(part, payloads, strict=True):
                if payload is not None:
                    found[task_id] = self.codec.decode_meta(payload)
        return found

    def wait_for(
        self,
        task_ids: Sequence[str],
        *,
        timeout_s: float | None,
        on_message: Callable[[Meta], Any] | None = None,
        on_interval: Callable[[], Any] | None = None,
    ) -> Iterator[tuple[str, Meta]]:
        """Yield the metas of finished tasks as they come; see :class:`pyworker.backends.base.Backend`."""
        return self._waiting.wait(task_ids, timeout_s, on_message, on_interval)

    async def await_for(self, task_ids: Sequence[str], found: Callable[[str, Meta], None]) -> None:
        """Wait in a coroutine; see :class:`pyworker.backends.base.AsyncBackend`."""
        if self.before_read is not None:
            self.before_read()
        with self._lock:
            if self._async_waiting is None:
                self._async_waiting = AsyncWaiting(self, lambda: connect_async(self.address))
        await self._async_waiting.wait(task_ids, found)

    # -- writing

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
        key = self.task_key(task_id)
        is_taken = self.sink is not None and self.sink(key.encode(), value, state == states.SUCCESS)
        if not is_taken and not self._has_succeeded(task_id):
            self.call(self._write, key, value)
        return stored

    def mark_as_done(
        self, task_id: str, result: Any, request: Any = None, store_result: bool = True, state: str = states.SUCCESS
    ) -> None:
        """Store a success and count it if it is part of a chord."""
        if store_result:
            self.store_result(task_id, result, state, request=request)
        if request is not None and request.chord:
            self.on_chord_part_return(request, state, result)

    def forget(self, task_id: str) -> None:
        """Delete a result."""
        self.call(self.client.delete, self.task_key(task_id))

    def prepared(self, result: Any, state: str) -> Any:
        """Return a result as it is stored."""
        if state in states.EXCEPTION_STATES and isinstance(result, BaseException):
            return self.codec.exception_to_stored(result)
        as_tuple = getattr(result, "as_tuple", None)
        return as_tuple() if as_tuple is not None and self.codec.serializer != "pickle" else result

    def _meta(self, task_id: str, result: Any, state: str, traceback: str | None, request: Any) -> Meta:
        done = self.app.now().isoformat() if state in states.READY_STATES else None
        children = getattr(request, "children", None) or []
        meta: Meta = {
            "status": state,
            "result": result,
            "traceback": traceback,
            "children": [child.as_tuple() for child in children],
            "date_done": done,
        }
        if getattr(request, "group", None):
            meta["group_id"] = request.group
        if getattr(request, "parent_id", None):
            meta["parent_id"] = request.parent_id
        if self.app.conf.result_extended and request is not None:
            meta.update(_extended(request))
        meta["task_id"] = task_id
        return meta

    def _has_succeeded(self, task_id: str) -> bool:
        payload = self.call(self.client.get, self.task_key(task_id))
        return payload is not None and self.codec.decode(payload)["status"] == states.SUCCESS

    def _write(self, key: str, value: bytes) -> None:
        pipeline = self.client.pipeline(transaction=False)
        pipeline.set(key, value, ex=self.expires_s)
        pipeline.publish(key, value)
        pipeline.execute()

    # -- groups and chords

    def group_key(self, group_id: str, ending: str = "") -> str:
        """Return a key of a group."""
        return f"{self.group_key_prefix}{group_id}{ending}"

    def save_group(self, group_id: str, result: Any) -> None:
        """Store a group's structure."""
        self.call(self._write, self.group_key(group_id), self.codec.encode({"result": result.as_tuple()}))

    def restore_group(self, group_id: str) -> Any:
        """Return a stored group's structure, None if there is none."""
        payload = self.call(self.client.get, self.group_key(group_id))
        return None if payload is None else self.codec.decode(payload)["result"]

    def delete_group(self, group_id: str) -> None:
        """Delete a group's structure."""
        self.call(self.client.delete, self.group_key(group_id))

    def set_chord_size(self, group_id: str, size: int) -> None:
        """Say how many parts a chord's header has; the chord may be applied anew."""
        key = self.group_key(group_id, ".s")
        self.call(self.client.delete, self.group_key(group_id, ".c"))
        self.call(lambda: self.client.set(key, size, ex=self.expires_s))

    def add_to_chord(self, group_id: str, result: Any) -> None:
        """Say that a running chord's header has one part more."""
        key = self.group_key(group_id, ".t")

        def add() -> None:
            pipeline = self.client.pipeline()
            pipeline.incr(key)
            if self.expires_s:
                pipeline.expire(key, self.expires_s)
            pipeline.execute()

        self.call(add)

    def on_chord_part_return(self, request: Any, state: str, result: Any) -> None:
        """Count a finished task of a chord's header; the last one sends the body."""
        if self.chord_parts is not None:
            self.chord_parts.on_part(request, state, result)

    def close(self) -> None:
        """Close idle connections."""
        self._waiting.close()
        self.client.close()

    def call(self, operation: Callable[..., Any], *arguments: Any) -> Any:
        """Run an operation of the client.

        Raises:
            OperationalError: the store cannot be reached or refuses.
        """
        try:
            return operation(*arguments)
        except redis.RedisError as error:
            raise OperationalError(f"result store {self.as_uri()}: {error}") from error


def _seconds(expires: Any) -> int | None:
    seconds = expires.total_seconds() if isinstance(expires, timedelta) else expires
    return int(seconds) if seconds else None


def _extended(request: Any) -> Meta:
    """What ``result_extended`` adds."""
    delivery = request.delivery_info or {}
    extended: Meta = {
        "name": request.task,
        "args": request.args,
        "kwargs": request.kwargs,
        "worker": request.hostname,
        "retries": request.retries,
        "queue": delivery.get("routing_key"),
    }
    stamps = request.stamps or {}
    if stamps:
        extended["stamped_headers"] = request.stamped_headers
        extended.update({name: stamps[name] for name in request.stamped_headers or () if name in stamps})
    return extended
