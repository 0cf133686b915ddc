"""``rpc://`` results: each is a message to the reply queue of the thread that sent the task, in Celery's layout.

Nothing is kept anywhere: a result can be read by the thread that sent its task, and by no other. Chords and stored
groups need a store and are refused, as by Celery.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from pyworker import states
from pyworker._native import AmqpPublisher, AmqpReplies, NativeError, build_amqp_message
from pyworker.backends.base import Meta, pending
from pyworker.backends.meta import MetaCodec
from pyworker.backends.storing import StoringBackend
from pyworker.backends.wait_clock import RECONNECTION_PAUSE_S, RECONNECTIONS, WaitClock
from pyworker.exceptions import ImproperlyConfigured, OperationalError
from pyworker.transport.amqp_queues import reply_queue
from pyworker.transport.amqp_settings import amqp_addresses
from pyworker.transport.amqp_url import is_amqp

if TYPE_CHECKING:
    from pyworker.app import Celery

#: Metas that nobody asked for yet; the oldest are forgotten first.
_KEPT_MAX = 100_000
_TRANSIENT, _PERSISTENT = 1, 2
_NOT_STORED = "rpc:// results are messages and not stored: a group cannot be saved or restored"


class _Thread(threading.local):
    """What one thread has heard."""

    def __init__(self) -> None:
        self.process_id = os.getpid()
        self.replies: AmqpReplies | None = None
        self.metas: OrderedDict[str, Meta] = OrderedDict()


class RpcBackend(StoringBackend):
    """Results as messages; safe across threads and forks.

    Raises:
        ImproperlyConfigured: the broker is not RabbitMQ, or a setting is not usable.
    """

    def __init__(self, app: Celery, url: str) -> None:
        super().__init__(app, url)
        conf = app.conf
        broker = conf.broker_read_url or conf.broker_url
        if not is_amqp(broker):
            raise ImproperlyConfigured("result_backend: rpc:// needs RabbitMQ as the broker")
        self.addresses = amqp_addresses(conf, broker, "pyworker results")
        self.codec = MetaCodec.of(conf, compresses=False)
        self._delivery_mode = _PERSISTENT if conf.result_persistent else _TRANSIENT
        self._publisher = AmqpPublisher(list(self.addresses), max_idle=1)
        self._local = _Thread()

    def as_uri(self, include_password: bool = False) -> str:
        """Return ``rpc://``: the address is the broker's."""
        return "rpc://"

    # -- reading

    def get_task_meta(self, task_id: str) -> Meta:
        """Return the last state that was heard of a task; one that is unknown is ``PENDING``."""
        return self.get_many([task_id]).get(task_id) or pending(task_id)

    def get_many(self, task_ids: Sequence[str]) -> dict[str, Meta]:
        """Return the last states that were heard of these tasks."""
        self._attempt(lambda: self._hear(0.0, None))
        metas = self._thread().metas
        return {task_id: metas[task_id] for task_id in task_ids if task_id in metas}

    def wait_for(
        self,
        task_ids: Sequence[str],
        *,
        timeout_s: float | None,
        on_message: Callable[[Meta], Any] | None = None,
        on_interval: Callable[[], Any] | None = None,
    ) -> Iterator[tuple[str, Meta]]:
        """Yield the metas of finished tasks as they come; see :class:`pyworker.backends.base.Backend`."""
        clock = WaitClock(timeout_s, on_interval)
        waited = dict.fromkeys(task_ids)
        heard = list(waited)
        while True:
            metas = self._thread().metas
            for task_id in heard:
                meta = metas.get(task_id)
                if meta is not None and task_id in waited and meta["status"] in states.READY_STATES:
                    del waited[task_id]
                    yield task_id, meta
            if not waited:
                return
            clock.require_time()
            clock.tick()
            heard = self._attempt(lambda: self._hear(clock.step_s(), on_message), clock)

    def forget(self, task_id: str) -> None:
        """Forget what was heard of a task."""
        self._thread().metas.pop(task_id, None)

    def _thread(self) -> _Thread:
        local = self._local
        if local.process_id != os.getpid():
            # A forked child has a reply queue of its own; the connection is its parent's.
            local.process_id, local.replies, local.metas = os.getpid(), None, OrderedDict()
        return local

    def _hear(self, wait_s: float, on_message: Callable[[Meta], Any] | None) -> list[str]:
        """Wait for a reply and take all that follow at once; returns the tasks heard of."""
        thread = self._thread()
        if thread.replies is None:
            thread.replies = AmqpReplies(list(self.addresses), reply_queue(self.app.conf))
        heard = []
        try:
            reply = thread.replies.next(wait_s)
            while reply is not None:
                correlation_id, content_type, content_encoding, body = reply
                meta = self.codec.decode_message(body, content_type, content_encoding)
                task_id = str(meta.get("task_id") or correlation_id)
                self._keep(thread, task_id, meta)
                heard.append(task_id)
                if on_message is not None:
                    on_message(meta)
                reply = thread.replies.next(0.0)
        except NativeError:
            thread.replies = None
            raise
        return heard

    @staticmethod
    def _keep(thread: _Thread, task_id: str, meta: Meta) -> None:
        known = thread.metas.get(task_id)
        if known is not None and known["status"] in states.READY_STATES and meta["status"] not in states.READY_STATES:
            return
        thread.metas[task_id] = meta
        while len(thread.metas) > _KEPT_MAX:
            thread.metas.popitem(last=False)

    def _attempt(self, hear: Callable[[], list[str]], clock: WaitClock | None = None) -> list[str]:
        """Hear, over a new connection if the present one is lost.

        Raises:
            OperationalError: the broker cannot be reached.
        """
        for attempt in range(RECONNECTIONS + 1):
            try:
                return hear()
            except NativeError as error:
                is_over = clock is not None and clock.is_over()
                if not error.retryable or attempt == RECONNECTIONS or is_over:
                    raise OperationalError(f"result store {self.as_uri()}: {error}") from error
            time.sleep(RECONNECTION_PAUSE_S if attempt else 0.0)
        return []

    # -- writing

    def store_result(
        self, task_id: str, result: Any, state: str, traceback: str | None = None, request: Any = None
    ) -> Any:
        """Send a state to whoever waits for it; nothing where the request names nobody.

        Raises:
            kombu.exceptions.EncodeError: the result cannot be serialized.
            OperationalError: the broker cannot be reached.
        """
        stored = self.prepared(result, state)
        queue = getattr(request, "reply_to", None)
        if not queue:
            return stored
        properties = {
            "delivery_mode": self._delivery_mode,
            "correlation_id": getattr(request, "correlation_id", None) or task_id,
            "priority": 0,
        }
        message = build_amqp_message(
            self.codec.encode(self._meta(task_id, stored, state, traceback, request)),
            b"{}",
            json.dumps(properties).encode(),
            self.codec.content_type,
            self.codec.content_encoding,
        )
        if self.sink is None or not self.sink(task_id, queue.encode(), message, state == states.SUCCESS):
            self._publish(queue, message)
        return stored

    def _publish(self, queue: str, message: bytes) -> None:
        try:
            self._publisher.publish_many([("", queue, False, message)])
        except NativeError as error:
            raise OperationalError(f"result store {self.as_uri()}: {error}") from error

    # -- what needs a store

    def _refuse_chords(self, *_arguments: Any) -> NoReturn:
        raise NotImplementedError(
            "rpc:// results are messages and not stored: chords, and groups followed by a task, need a result store "
            "such as redis://"
        )

    set_chord_size = add_to_chord = _refuse_chords

    def write_value(self, key: str, value: bytes) -> NoReturn:
        """Refuse: nothing but results is sent.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(_NOT_STORED)

    def read_values(self, keys: Sequence[str]) -> NoReturn:
        """Refuse, as above."""
        raise NotImplementedError(_NOT_STORED)

    def delete_value(self, key: str) -> NoReturn:
        """Refuse, as above."""
        raise NotImplementedError(_NOT_STORED)

    def close(self) -> None:
        """Close this thread's connections."""
        self._local.replies = None
        self._publisher.close()
