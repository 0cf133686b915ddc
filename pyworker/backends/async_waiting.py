"""Waiting for results in an event loop: one subscription connection per loop, shared by all that wait in it.

The order is that of :mod:`pyworker.backends.waiting`: subscribe, wait for the server's confirmation, read, and from
then on listen; a slow second reading is the safety net. The connection lives as long as anybody waits.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any

import redis

from pyworker import states
from pyworker.backends.wait_clock import INTERVAL_S, RECONNECTION_PAUSE_S, RECONNECTIONS
from pyworker.exceptions import OperationalError

if TYPE_CHECKING:
    from pyworker.backends.base import Meta
    from pyworker.backends.redis import RedisBackend

_BATCH = 500

Found = Callable[[str, "Meta"], None]


class AsyncWaiting:
    """Waits for the results of one backend, in any number of event loops."""

    def __init__(self, backend: RedisBackend, connect: Callable[[], Any]) -> None:
        self._backend = backend
        self._connect = connect
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopWaiting] = weakref.WeakKeyDictionary()

    async def wait(self, task_ids: Sequence[str], found: Found) -> None:
        """Wait until all of these tasks are done.

        Args:
            task_ids: the tasks.
            found: called with the id and the meta of each.

        Raises:
            OperationalError: the store is gone.
        """
        loop = asyncio.get_running_loop()
        waiting = self._loops.get(loop)
        if waiting is None:
            waiting = self._loops[loop] = _LoopWaiting(self._backend, self._connect)
        await waiting.wait(task_ids, found)


class _LoopWaiting:
    """Who waits in one event loop, and the task that listens for them."""

    def __init__(self, backend: RedisBackend, connect: Callable[[], Any]) -> None:
        self._backend = backend
        self._connect = connect
        #: Futures by task id; what is not subscribed to yet is in ``_new`` too.
        self._waiting: dict[str, set[asyncio.Future[Meta]]] = {}
        self._new: dict[str, None] = {}
        self._pubsub: Any = None
        self._listener: asyncio.Task[None] | None = None

    async def wait(self, task_ids: Sequence[str], found: Found) -> None:
        loop = asyncio.get_running_loop()
        futures: dict[str, asyncio.Future[Meta]] = {}
        for task_id in dict.fromkeys(task_ids):
            future: asyncio.Future[Meta] = loop.create_future()
            future.add_done_callback(lambda done, task_id=task_id: _tell(done, task_id, found))  # type: ignore[misc]
            futures[task_id] = future
            if task_id not in self._waiting:
                self._new[task_id] = None
            self._waiting.setdefault(task_id, set()).add(future)
        try:
            await self._subscribe_new()
            await asyncio.gather(*futures.values())
        finally:
            for task_id, future in futures.items():
                future.cancel()
                self._leave(task_id, future)
            if not self._waiting and self._listener is not None:
                listener, self._listener = self._listener, None
                listener.cancel()
                # The loop may end right after this: the connection is closed by then.
                await asyncio.gather(listener, return_exceptions=True)

    def _leave(self, task_id: str, future: asyncio.Future[Meta]) -> None:
        others = self._waiting.get(task_id)
        if others is None:
            return
        others.discard(future)
        if not others:
            del self._waiting[task_id]
            self._new.pop(task_id, None)

    async def _subscribe_new(self) -> None:
        """Subscribe where a connection is open; start to listen, which opens one, where none is."""
        if self._listener is None or self._listener.done():
            self._listener = asyncio.ensure_future(self._listen())
            return
        pubsub = self._pubsub
        if pubsub is None:
            return
        try:
            await self._subscribe(pubsub)
        except (redis.RedisError, OSError):
            pass  # The listener finds the connection broken too, and subscribes to everything anew.

    async def _subscribe(self, pubsub: Any) -> None:
        new, self._new = list(self._new), {}
        for start in range(0, len(new), _BATCH):
            await pubsub.subscribe(*(self._backend.task_key(task_id) for task_id in new[start : start + _BATCH]))

    async def _listen(self) -> None:
        failures = 0
        while self._waiting:
            client = self._connect()
            pubsub: Any = None
            try:
                async with client, client.pubsub() as pubsub:
                    self._new = dict.fromkeys(self._waiting)
                    await self._subscribe(pubsub)
                    self._pubsub = pubsub
                    async for _ in self._serve(client, pubsub):
                        failures = 0
                return
            except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
                failures += 1
                if failures > RECONNECTIONS:
                    self._fail(error)
                    return
                await asyncio.sleep(0.0 if failures == 1 else RECONNECTION_PAUSE_S)
            except Exception as error:
                self._fail(error)
                return
            finally:
                # Another one may listen by now.
                if self._pubsub is pubsub:
                    self._pubsub = None

    async def _serve(self, client: Any, pubsub: Any) -> AsyncIterator[None]:
        """Deliver what is announced and what is found; yields after each answer of the server."""
        loop = asyncio.get_running_loop()
        confirmed: dict[str, None] = {}
        next_reading = loop.time() + INTERVAL_S
        prefix = self._backend.task_key_prefix
        while self._waiting:
            # What was confirmed is read together as soon as no further confirmation is at hand.
            pause_s = 0.0 if confirmed else max(0.001, next_reading - loop.time())
            message = await pubsub.get_message(timeout=pause_s)
            if message is not None:
                task_id = _text(message["channel"]).removeprefix(prefix)
                if message["type"] == "subscribe":
                    confirmed[task_id] = None
                elif message["type"] == "message":
                    self._deliver(task_id, message["data"])
                yield
            elif confirmed:
                read, confirmed = list(confirmed), {}
                await self._read(client, read)
                yield
            if loop.time() >= next_reading:
                await self._read(client, list(self._waiting))
                await self._forget_others(pubsub)
                next_reading = loop.time() + INTERVAL_S
                yield

    async def _read(self, client: Any, task_ids: list[str]) -> None:
        for start in range(0, len(task_ids), _BATCH):
            part = task_ids[start : start + _BATCH]
            payloads = await client.mget([self._backend.task_key(task_id) for task_id in part])
            for task_id, payload in zip(part, payloads, strict=True):
                if payload is not None:
                    self._deliver(task_id, payload)

    async def _forget_others(self, pubsub: Any) -> None:
        """Unsubscribe from what nobody waits for any more."""
        wanted = {self._backend.task_key(task_id) for task_id in self._waiting}
        stale = [channel for channel in pubsub.channels if _text(channel) not in wanted]
        if stale:
            await pubsub.unsubscribe(*stale)

    def _deliver(self, task_id: str, payload: bytes) -> None:
        waiting = [future for future in self._waiting.get(task_id, ()) if not future.done()]
        if not waiting:
            return
        try:
            meta = self._backend.codec.decode_meta(payload)
        except Exception as error:
            # One task's damaged result is no other's: who waits for that task is told.
            for future in waiting:
                future.set_exception(error)
            return
        if meta["status"] in states.READY_STATES:
            for future in waiting:
                future.set_result(meta)

    def _fail(self, error: Exception) -> None:
        if isinstance(error, (redis.RedisError, OSError)):
            gone = OperationalError(f"result store {self._backend.as_uri()}: {error}")
            gone.__cause__ = error
            error = gone
        self._listener = None
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(error)


def _tell(done: asyncio.Future[Any], task_id: str, found: Found) -> None:
    if not done.cancelled() and done.exception() is None:
        found(task_id, done.result())


def _text(channel: bytes | str) -> str:
    return channel.decode() if isinstance(channel, bytes) else channel
