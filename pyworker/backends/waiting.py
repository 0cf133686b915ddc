"""Waiting for results without polling: subscribe and read at once, then wait; a slow second reading is the net.

Every thread has a subscription connection of its own, kept for its next wait. Its channel names are the result
keys; what is published is the meta itself. The order matters: the server subscribes before it reads, so a result is
either in the store already or will be announced.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pyworker import states
from pyworker._native import NativeError, ResultSubscription
from pyworker.exceptions import OperationalError, TimeoutError

if TYPE_CHECKING:
    from pyworker.backends.base import Meta
    from pyworker.backends.redis import RedisBackend

#: How often results are read again although nothing was announced.
_SECOND_READING_S = 1.0
#: How often a lost connection is opened again before giving up (Celery's policy: 20 times, a second apart).
_RECONNECTIONS = 20
_RECONNECTION_PAUSE_S = 1.0


class _Thread(threading.local):
    def __init__(self) -> None:
        self.subscription: ResultSubscription | None = None
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
        failures = 0
        while waited:
            subscription: ResultSubscription | None = None
            keeps = False
            try:
                subscription = self._acquire()
                for found in self._serve(subscription, waited, deadline, on_message, on_interval):
                    failures = 0
                    yield found
                subscription.unsubscribe()
                keeps = True
            except NativeError as error:
                failures += 1
                if not error.retryable or failures > _RECONNECTIONS:
                    raise OperationalError(f"result store {self._backend.as_uri()}: {error}") from error
                self._pause(deadline, failures)
            finally:
                self._release(subscription, keeps)

    def close(self) -> None:
        """Close this thread's connection."""
        self._thread.subscription = None

    # -- connections

    def _acquire(self) -> ResultSubscription:
        """This thread's connection, or one of its own for a wait inside another."""
        thread = self._thread
        subscription = None
        if not thread.is_busy and thread.process_id == os.getpid():
            subscription, thread.subscription = thread.subscription, None
        thread.is_busy = True
        return subscription or ResultSubscription(self._backend.address)

    def _release(self, subscription: ResultSubscription | None, keeps: bool) -> None:
        thread = self._thread
        thread.is_busy = False
        if keeps and thread.subscription is None:
            thread.subscription, thread.process_id = subscription, os.getpid()

    def _pause(self, deadline: float | None, failures: int) -> None:
        pause = 0.0 if failures == 1 else _RECONNECTION_PAUSE_S
        if deadline is not None:
            _require_time(deadline)
            pause = min(pause, deadline - time.monotonic())
        time.sleep(max(0.0, pause))

    # -- the wait

    def _serve(
        self,
        subscription: ResultSubscription,
        waited: dict[str, None],
        deadline: float | None,
        on_message: Callable[[Meta], Any] | None,
        on_interval: Callable[[], Any] | None,
    ) -> Iterator[tuple[str, Meta]]:
        backend = self._backend
        decode = backend.codec.decode_meta
        if backend.before_read is not None:
            backend.before_read()
        task_ids = list(waited)
        payloads = subscription.subscribe([backend.task_key(task_id).encode() for task_id in task_ids])
        for task_id, payload in zip(task_ids, payloads, strict=True):
            if payload is None:
                continue
            meta = decode(payload)
            if meta["status"] in states.READY_STATES:
                if on_message is not None:
                    on_message(meta)
                del waited[task_id]
                yield task_id, meta
        next_reading = time.monotonic() + _SECOND_READING_S
        while waited:
            _require_time(deadline)
            announced = subscription.next(_step(deadline, next_reading))
            if announced is not None:
                task_id = announced[0].decode().removeprefix(backend.task_key_prefix)
                if task_id in waited:
                    meta = decode(announced[1])
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


def _require_time(deadline: float | None) -> None:
    if deadline is not None and time.monotonic() >= deadline:
        raise TimeoutError("The operation timed out.")


def _step(deadline: float | None, next_reading: float) -> float:
    """How long to wait for the next message."""
    until = next_reading if deadline is None else min(next_reading, deadline)
    return max(0.001, until - time.monotonic())
