"""Looks behind stock Celery on any transport and backend, by their own classes; for those that have no other view."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from queue import Empty
from typing import Any

_KEY_PREFIX = "celery-task-meta-"


class KombuStore:
    """The broker and the result store of a Celery application, through kombu's channel and the result backend."""

    def __init__(self, app: Any) -> None:
        self._backend = app.backend
        self._connection = app.connection_for_write()
        self._channel = self._connection.default_channel

    def push(self, queue: str, messages: Sequence[bytes]) -> None:
        """Put messages into a queue, one at a time: these transports know nothing else."""
        for message in messages:
            self._channel._put(queue, json.loads(message))

    def pop(self, queue: str) -> bytes | None:
        """Take the oldest message out of a queue and forget the queue."""
        try:
            return json.dumps(self._channel._get(queue)).encode()
        except Empty:
            return None

    def results(self, keys: Sequence[str]) -> list[bytes | None]:
        """Read results, with what every backend keeps of them."""
        return [self._result(key.removeprefix(_KEY_PREFIX)) for key in keys]

    def stored(self, keys: Sequence[str]) -> int:
        """Count the results that are there."""
        return sum(value is not None for value in self.results(keys))

    def leftovers(self, queue: str) -> int:
        """Count queued messages; one that a worker has taken is gone from these transports."""
        return int(self._channel._size(queue))

    def forget(self, queue: str, keys: Sequence[str]) -> None:
        """Delete what is queued; results go with their folder."""
        with contextlib.suppress(self._connection.recoverable_connection_errors):
            self._channel._purge(queue)

    def close(self) -> None:
        """Close the connection."""
        self._connection.release()

    def _result(self, task_id: str) -> bytes | None:
        meta = self._backend.get_task_meta(task_id, cache=False)
        if meta["status"] == "PENDING":
            return None
        kept = {"task_id": task_id, "status": meta["status"], "result": meta["result"]}
        return json.dumps(kept, default=repr).encode()  # a failure's result is an exception
