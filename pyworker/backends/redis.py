"""Results in Redis, in Celery's layout: ``celery-task-meta-<id>`` keys, published under the same name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import redis

from pyworker import states
from pyworker.backends.async_waiting import AsyncWaiting
from pyworker.backends.base import Meta
from pyworker.backends.redis_client import connect, connect_async
from pyworker.backends.storing import StoringBackend
from pyworker.backends.waiting import Waiting
from pyworker.redacting import without_password
from pyworker.transport.redis_settings import result_address

if TYPE_CHECKING:
    from pyworker.app import Celery

_PREFIX_ENDINGS = ":_-."


class RedisBackend(StoringBackend):
    """A result store on one Redis server; safe across threads and forks.

    Raises:
        ImproperlyConfigured: the URL or a setting is not usable.
    """

    errors = redis.RedisError

    def __init__(self, app: Celery, url: str) -> None:
        super().__init__(app, url)
        conf = app.conf
        self.address = result_address(conf, url)
        prefix = str(self.options.get("global_keyprefix") or "")
        if prefix and prefix[-1] not in _PREFIX_ENDINGS:
            prefix += "_"
        self.task_key_prefix = f"{prefix}celery-task-meta-"
        self.group_key_prefix = f"{prefix}celery-taskset-meta-"
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

    def read_values(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        """Read the values of keys, in their order."""
        return cast("Sequence[bytes | None]", self.call(self.client.mget, keys))

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

    def write_value(self, key: str, value: bytes) -> None:
        """Store and publish a value that is no task's result."""
        self.call(self._write, key, value)

    def delete_value(self, key: str) -> None:
        """Delete a value."""
        self.call(self.client.delete, key)

    def _has_succeeded(self, key: bytes) -> bool:
        payload: Any = self.call(self.client.get, key)
        return payload is not None and self.codec.decode(payload)["status"] == states.SUCCESS

    def _write(self, key: str | bytes, value: bytes) -> None:
        pipeline = self.client.pipeline(transaction=False)
        pipeline.set(key, value, ex=self.expires_s)
        pipeline.publish(key, value)
        pipeline.execute()

    # -- chords

    def set_chord_size(self, group_id: str, size: int) -> None:
        """Say how many parts a chord's header has; the chord may be applied anew."""
        key = self.group_key(group_id, ".s")
        self.call(self.client.delete, self.group_key(group_id, ".c"))
        self.call(lambda: self.client.set(key, size, ex=self.chord_expires_s))

    def add_to_chord(self, group_id: str, result: Any) -> None:
        """Say that a running chord's header has one part more."""
        key = self.group_key(group_id, ".t")

        def add() -> None:
            pipeline = self.client.pipeline()
            pipeline.incr(key)
            if self.chord_expires_s:
                pipeline.expire(key, self.chord_expires_s)
            pipeline.execute()

        self.call(add)

    def close(self) -> None:
        """Close idle connections."""
        self._waiting.close()
        self.client.close()

    def may_pass(self, error: Any) -> bool:
        """Whether the server could not be reached, or not in time."""
        return isinstance(error, (redis.ConnectionError, redis.TimeoutError))
