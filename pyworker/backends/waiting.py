"""Waiting for results without polling: subscribe, then read, then wait; a slow second reading is the safety net.

Every thread has a subscription connection of its own, kept for its next wait. Its channel names are the result
keys; what is published is the meta itself. The order matters: once the server has confirmed the subscription, a
result is either in the store already or will be announced.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import redis

from pyworker import states
from pyworker.exceptions import OperationalError, TimeoutError

if TYPE_CHECKING:
    from pyworker.backends.base import Meta
    from pyworker.backends.redis import RedisBackend

_BATCH = 500
#: How often results are read again although nothing was announced.
_SECOND_READING_S = 1.0
#: How often a lost connection is opened again before giving up (Celery's policy: 20 times, a second apart).
_RECONNECTIONS = 20
_RECONNECTION_PAUSE_S = 1.0


class _Thread(threading.local):
    def __init__(self) -> None:
        self.pubsub: Any = None
        self.process_id = 0
        #: A generator of this thread is between two results and its subscriptions are alive.
        self.is_busy = False


class Waiting:
    """Waits for the results of one backend."""

    def __init__(self, backend: RedisBackend) -> None:
        self._backend = backend
        self._thread = _Thread()

    def wait(
        self,
        task_ids: Sequence[str],
        timeout_s: float | None,
        on_message: Callable[[Meta], Any] | None,
        on_interval: Callable[[], Any] | None,
    ) -> Iterator[tuple[str, Meta]]:
        """Yield finished tasks' metas as they come."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        waited = dict.fromkeys(task_ids)
        if on_message is None:
            # Often the result is there already.
            yield from self._read(waited)
        failures = 0
        while waited:
            pubsub = self._acquire()
            keeps = False
            try:
                self._subscribe(pubsub, waited, deadline)
                for found in self._serve(pubsub, waited, deadline, on_message, on_interval):
                    failures = 0
                    yield found
                self._unsubscribe(pubsub)
                keeps = True
            except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
                failures += 1
                if failures > _RECONNECTIONS:
                    raise OperationalError(f"result store {self._backend.as_uri()}: {error}") from error
                self._pause(deadline, failures)
            except redis.RedisError as error:
                raise OperationalError(f"result store {self._backend.as_uri()}: {error}") from error
            finally:
                self._release(pubsub, keeps)

    def close(self) -> None:
        """Close this thread's connection."""
        pubsub, self._thread.pubsub = self._thread.pubsub, None
        if pubsub is not None:
            pubsub.close()

    # -- connections

    def _acquire(self) -> Any:
        """This thread's connection, or one of its own for a wait inside another."""
        thread = self._thread
        pubsub = None
        if not thread.is_busy and thread.process_id == os.getpid():
            pubsub, thread.pubsub = thread.pubsub, None
        thread.is_busy = True
        if pubsub is None:
            pubsub = self._backend.client.pubsub()  # type: ignore[no-untyped-call]
        return pubsub

    def _release(self, pubsub: Any, keeps: bool) -> None:
        thread = self._thread
        thread.is_busy = False
        if keeps and thread.pubsub is None:
            thread.pubsub, thread.process_id = pubsub, os.getpid()
        else:
            pubsub.close()

    def _pause(self, deadline: float | None, failures: int) -> None:
        pause = 0.0 if failures == 1 else _RECONNECTION_PAUSE_S
        if deadline is not None:
            _require_time(deadline)
            pause = min(pause, deadline - time.monotonic())
        time.sleep(max(0.0, pause))

    # -- the wait

    def _subscribe(self, pubsub: Any, waited: dict[str, None], deadline: float | None) -> None:
        """Subscribe and wait for the server's confirmation."""
        channels = [self._backend.task_key(task_id) for task_id in waited]
        for start in range(0, len(channels), _BATCH):
            pubsub.subscribe(*channels[start : start + _BATCH])
        missing = set(channels)
        while missing:
            _require_time(deadline)
            message = pubsub.get_message(timeout=_step(deadline))
            if message is not None and message["type"] == "subscribe":
                missing.discard(_text(message["channel"]))

    def _unsubscribe(self, pubsub: Any) -> None:
        pubsub.unsubscribe()

    def _serve(
        self,
        pubsub: Any,
        waited: dict[str, None],
        deadline: float | None,
        on_message: Callable[[Meta], Any] | None,
        on_interval: Callable[[], Any] | None,
    ) -> Iterator[tuple[str, Meta]]:
        for found in self._read(waited):
            if on_message is not None:
                on_message(found[1])
            yield found
        next_reading = time.monotonic() + _SECOND_READING_S
        while waited:
            _require_time(deadline)
            message = pubsub.get_message(timeout=_step(deadline, next_reading))
            if message is not None and message["type"] == "message":
                task_id = _text(message["channel"]).removeprefix(self._backend.task_key_prefix)
                if task_id in waited:
                    meta = self._backend.codec.decode_meta(message["data"])
                    if on_message is not None:
                        on_message(meta)
                    if meta["status"] in states.READY_STATES:
                        del waited[task_id]
                        yield task_id, meta
            if time.monotonic() >= next_reading:
                if on_interval is not None:
                    on_interval()
                yield from self._read(waited)
                next_reading = time.monotonic() + _SECOND_READING_S

    def _read(self, waited: dict[str, None]) -> Iterator[tuple[str, Meta]]:
        """Read what is in the store."""
        for task_id, meta in self._backend.get_many(list(waited)).items():
            if meta["status"] in states.READY_STATES and task_id in waited:
                del waited[task_id]
                yield task_id, meta


def _text(channel: bytes | str) -> str:
    return channel.decode() if isinstance(channel, bytes) else channel


def _require_time(deadline: float | None) -> None:
    if deadline is not None and time.monotonic() >= deadline:
        raise TimeoutError("The operation timed out.")


def _step(deadline: float | None, next_reading: float | None = None) -> float:
    """How long to wait for the next message."""
    until = time.monotonic() + _SECOND_READING_S if next_reading is None else next_reading
    if deadline is not None:
        until = min(until, deadline)
    return max(0.001, until - time.monotonic())
