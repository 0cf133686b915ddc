"""Results in Redis, in Celery's layout: ``celery-task-meta-<id>`` keys, published under the same name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import redis

from pyworker import states
from pyworker.backends.async_waiting import AsyncWaiting
from pyworker.backends.base import Meta, pending
from pyworker.backends.meta import MetaCodec
from pyworker.backends.redis_client import connect, connect_async
from pyworker.backends.storing import StoringBackend
from pyworker.backends.waiting import Waiting
from pyworker.exceptions import ImproperlyConfigured, OperationalError
from pyworker.transport.redis_settings import result_address
from pyworker.transport.redis_url import without_password

if TYPE_CHECKING:
    from pyworker.app import Celery

_BATCH = 500
_PREFIX_ENDINGS = ":_-."


class RedisBackend(StoringBackend):
    """A result store on one Redis server; safe across threads and forks.

    Raises:
        ImproperlyConfigured: the URL or a setting is not usable.
    """

    def __init__(self, app: Celery, url: str) -> None:
        super().__init__()
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
        self._waiting = Waiting(self)
        self._async_waiting: AsyncWaiting | None = None
        self._lock = threading.Lock()

    def as_uri(self, include_password: bool = False) -> str:
        """Return the URL, without its password unless wanted."""
        return self.url if include_password else without_password(self.url)

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

    def write_result(self, key: bytes, value: bytes, is_success: bool) -> None:
        """Store and publish a value unless a success is there."""
        if not self._has_succeeded(key):
            self.call(self._write, key, value)

    def forget(self, task_id: str) -> None:
        """Delete a result."""
        self.call(self.client.delete, self.task_key(task_id))

    def _has_succeeded(self, key: bytes) -> bool:
        payload = self.call(self.client.get, key)
        return payload is not None and self.codec.decode(payload)["status"] == states.SUCCESS

    def _write(self, key: str | bytes, value: bytes) -> None:
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
