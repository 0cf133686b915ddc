"""Results in a SQLite file: the store of the embedded broker, readable by every process of the machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from pyworker import states
from pyworker._native import NativeError
from pyworker.backends.base import Meta, pending
from pyworker.backends.meta import MetaCodec
from pyworker.backends.storing import StoringBackend
from pyworker.exceptions import ImproperlyConfigured, OperationalError, TimeoutError
from pyworker.transport.sqlite_file import open_file
from pyworker.transport.sqlite_url import parse_sqlite_url, url_of

if TYPE_CHECKING:
    from pyworker.app import Celery

Value = TypeVar("Value")

_BATCH = 500
#: How often results are read again although nobody rang.
_SECOND_READING_S = 1.0


class SqliteBackend(StoringBackend):
    """A result store in a file; safe across threads and forks.

    Raises:
        ImproperlyConfigured: the URL, the file or a setting is not usable.
    """

    def __init__(self, app: Celery, url: str) -> None:
        super().__init__()
        conf = app.conf
        if conf.result_failure_expires is not None:
            raise ImproperlyConfigured("result_failure_expires is not supported yet")
        self.app = app
        self.url = url
        options = dict(conf.result_backend_transport_options or {})
        self.address = parse_sqlite_url(url, setting="result_backend", options=options)
        self.file = open_file(self.address, setting="result_backend")
        self.expires_s = _seconds(conf.result_expires)
        #: Whether parts of a chord keep the order of its header.
        self.orders_chords = bool(options.get("result_chord_ordered", True))
        self.codec = MetaCodec(
            conf.result_serializer, conf.result_compression, conf.result_accept_content or conf.accept_content
        )

    def as_uri(self, include_password: bool = False) -> str:
        """Return the file's URL."""
        return url_of(self.address)

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
            keys = [self.task_key(task_id).encode() for task_id in part]
            for task_id, payload in zip(part, self.call(self.file.get_many, keys), strict=True):
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
        """Yield the metas of finished tasks as they come; see :class:`pyworker.backends.base.Backend`.

        A file keeps the last state of a task alone: states that follow each other closely are told of once.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        waited = dict.fromkeys(task_ids)
        told: dict[str, str] = {}
        next_interval = time.monotonic() + _SECOND_READING_S
        while waited:
            # Read the word before the results: what comes in between has changed it.
            seen = self.file.seen("results")
            for task_id, meta in self.get_many(list(waited)).items():
                state = meta["status"]
                if on_message is not None and told.get(task_id) != state:
                    on_message(meta)
                    told[task_id] = state
                if state in states.READY_STATES:
                    del waited[task_id]
                    yield task_id, meta
            if not waited:
                return
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                raise TimeoutError("The operation timed out.")
            if now >= next_interval:
                if on_interval is not None:
                    on_interval()
                next_interval = now + _SECOND_READING_S
            until = next_interval if deadline is None else min(next_interval, deadline)
            keys = [self.task_key(task_id).encode() for task_id in waited]
            self.file.wait("results", seen, keys, max(0.0, until - now))

    # -- writing

    def write_result(self, key: bytes, value: bytes, is_success: bool) -> None:
        """Store a value unless a success is there; it is on the disk when this returns."""
        self.call(lambda: self.file.set(key, value, is_success=is_success, protected=True, expires_s=self.expires_s))

    def forget(self, task_id: str) -> None:
        """Delete a result."""
        self.call(self.file.delete, [self.task_key(task_id).encode()])

    # -- groups and chords

    def group_key(self, group_id: str, ending: str = "") -> str:
        """Return a key of a group."""
        return f"{self.group_key_prefix}{group_id}{ending}"

    def save_group(self, group_id: str, result: Any) -> None:
        """Store a group's structure."""
        key, value = self.group_key(group_id).encode(), self.codec.encode({"result": result.as_tuple()})
        self.call(lambda: self.file.set(key, value, expires_s=self.expires_s))

    def restore_group(self, group_id: str) -> Any:
        """Return a stored group's structure, None if there is none."""
        payload = self.call(self.file.get_many, [self.group_key(group_id).encode()])[0]
        return None if payload is None else self.codec.decode(payload)["result"]

    def delete_group(self, group_id: str) -> None:
        """Delete a group's structure."""
        self.call(self.file.delete, [self.group_key(group_id).encode()])

    def set_chord_size(self, group_id: str, size: int) -> None:
        """Say how many parts a chord's header has; the chord may be applied anew."""
        self.call(self.file.set_chord_size, group_id, size, self.expires_s)

    def add_to_chord(self, group_id: str, result: Any) -> None:
        """Say that a running chord's header has one part more."""
        self.call(self.file.grow_chord, group_id)

    def close(self) -> None:
        """Close this process's connections; the handle stays usable."""
        self.file.close()

    def call(self, operation: Callable[..., Value], *arguments: Any) -> Value:
        """Run an operation on the file.

        Raises:
            OperationalError: the file cannot be reached or refuses.
        """
        try:
            return operation(*arguments)
        except NativeError as error:
            raise OperationalError(f"result store {self.as_uri()}: {error}") from error


def _seconds(expires: Any) -> int | None:
    seconds = expires.total_seconds() if isinstance(expires, timedelta) else expires
    return int(seconds) if seconds else None
