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
from pyworker.backends.wait_clock import RECONNECTION_PAUSE_S, RECONNECTIONS, WaitClock
from pyworker.exceptions import OperationalError

if TYPE_CHECKING:
    from pyworker.backends.base import Meta
    from pyworker.backends.redis import RedisBackend


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
        clock = WaitClock(timeout_s, on_interval)
        waited = dict.fromkeys(task_ids)
        failures = 0
        while waited:
            subscription: ResultSubscription | None = None
            keeps = False
            try:
                subscription = self._acquire()
                for found in self._serve(subscription, waited, clock, on_message):
                    failures = 0
                    yield found
                subscription.unsubscribe()
                keeps = True
            except NativeError as error:
                failures += 1
                if not error.retryable or failures > RECONNECTIONS:
                    raise OperationalError(f"result store {self._backend.as_uri()}: {error}") from error
                self._pause(clock, failures)
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

    @staticmethod
    def _pause(clock: WaitClock, failures: int) -> None:
        clock.require_time()
        time.sleep(clock.bounded_s(0.0 if failures == 1 else RECONNECTION_PAUSE_S))

    # -- the wait

    def _serve(
        self,
        subscription: ResultSubscription,
        waited: dict[str, None],
        clock: WaitClock,
        on_message: Callable[[Meta], Any] | None,
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
        clock.begin_interval()
        while waited:
            clock.require_time()
            announced = subscription.next(clock.step_s())
            if announced is not None:
                task_id = announced[0].decode().removeprefix(backend.task_key_prefix)
                if task_id in waited:
                    meta = decode(announced[1])
                    if on_message is not None:
                        on_message(meta)
                    if meta["status"] in states.READY_STATES:
                        del waited[task_id]
                        yield task_id, meta
            if clock.tick():
                yield from self._read(waited)
                clock.begin_interval()

    def _read(self, waited: dict[str, None]) -> Iterator[tuple[str, Meta]]:
        """Read what is in the store."""
        for task_id, meta in self._backend.get_many(list(waited)).items():
            if meta["status"] in states.READY_STATES and task_id in waited:
                del waited[task_id]
                yield task_id, meta
