"""``sqlite://`` as a result backend of Celery, found through the ``celery.result_backends`` entry point.

Meta, encoding and chords are Celery's own key-value code; only the lowest operations and the waiting are ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from celery import states
from celery.backends.base import KeyValueStoreBackend
from celery.exceptions import ImproperlyConfigured, TimeoutError
from celery.utils.functional import _regen
from kombu.utils.encoding import bytes_to_str

from pyworker.compat.celery.sqlite_chords import on_chord_part, save_complex_header
from pyworker.exceptions import ImproperlyConfigured as FileRefused
from pyworker.transport.registration import register
from pyworker.transport.sqlite_file import open_file
from pyworker.transport.sqlite_url import parse_sqlite_url, url_of

if TYPE_CHECKING:
    from pyworker._native import SqliteFile
    from pyworker.worker.sqlite_config import SqliteAddress

#: How often results are read again although nobody rang.
_SECOND_READING_S = 1.0

register()


class SQLiteBackend(KeyValueStoreBackend):
    """Results in a file that the processes of one machine share.

    ``implements_incr`` stays false although :meth:`incr` is there: Celery would put its own way of counting chords in
    the place of ours, which stores every header and counts a part as often as it is delivered.
    """

    supports_autoexpire = True
    supports_native_join = True
    persistent = True
    #: What a row may hold; the native side refuses more.
    _MAX_STR_VALUE_SIZE = 512 * 1024 * 1024

    def __init__(self, url: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.url = url or "sqlite://"
        options = self.app.conf.result_backend_transport_options
        try:
            self.address: SqliteAddress = parse_sqlite_url(self.url, setting="result_backend", options=options)
        except FileRefused as error:
            raise ImproperlyConfigured(str(error)) from error

    @property
    def file(self) -> SqliteFile:
        """The open file; opened when first needed, by every process for itself."""
        return open_file(self.address, setting="result_backend")

    def as_uri(self, include_password: bool = False) -> str:
        """Return the file's URL."""
        return url_of(self.address)

    def get(self, key: Any) -> bytes | None:
        """Read one value."""
        return self.file.get_many([_bytes(key)])[0]

    def mget(self, keys: Any) -> list[bytes | None]:
        """Read several values."""
        return self.file.get_many([_bytes(key) for key in keys])

    def set(self, key: Any, value: Any) -> None:
        """Store a value that is no result."""
        self.file.set(_bytes(key), _bytes(value), expires_s=self._expires_s())

    def _set_with_state(self, key: Any, value: Any, state: str) -> None:
        self.file.set(
            _bytes(key),
            _bytes(value),
            is_success=state == states.SUCCESS,
            protected=True,
            expires_s=self._expires_s(),
        )

    def delete(self, key: Any) -> None:
        """Forget a value."""
        self.file.delete([_bytes(key)])

    def incr(self, key: Any) -> int:
        """Count under a key."""
        return self.file.add(_bytes(key), 1, expires_s=self._expires_s())

    def expire(self, key: Any, value: int) -> None:
        """Give a key another time to end."""
        self.file.expire(_bytes(key), int(value))

    def wait_for(
        self,
        task_id: str,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_interval: Callable[[], Any] | None = None,
    ) -> Any:
        """Wait for one task's meta, woken by whoever stores it."""
        self._ensure_not_eager()
        deadline = None if timeout is None else time.monotonic() + timeout
        key = _bytes(self.get_key_for_task(task_id))
        while True:
            seen = self.file.seen("results")
            meta = self.get_task_meta(task_id)
            if meta["status"] in states.READY_STATES:
                return meta
            if on_interval:
                on_interval()
            self._rest(seen, [key], deadline)

    def get_many(
        self,
        task_ids: Any,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: Callable[[Any], Any] | None = None,
        on_interval: Callable[[], Any] | None = None,
        max_iterations: int | None = None,
        READY_STATES: Any = states.READY_STATES,
    ) -> Iterator[tuple[str, Any]]:
        """Yield the metas of tasks as they end."""
        deadline = None if timeout is None else time.monotonic() + timeout
        waited = dict.fromkeys(bytes_to_str(task_id) for task_id in task_ids)
        iterations = 0
        while waited:
            seen = self.file.seen("results")
            keys = [_bytes(self.get_key_for_task(task_id)) for task_id in waited]
            found = self._mget_to_results(self.mget(keys), list(waited), READY_STATES)
            for task_id, meta in found.items():
                waited.pop(bytes_to_str(task_id), None)
                if on_message is not None:
                    on_message(meta)
                yield bytes_to_str(task_id), meta
            iterations += 1
            if not waited or (max_iterations and iterations >= max_iterations):
                return
            if on_interval:
                on_interval()
            self._rest(seen, keys, deadline)

    def apply_chord(self, header_result_args: Any, body: Any, **kwargs: Any) -> None:
        """Prepare for the parts of a chord."""
        if not isinstance(header_result_args[1], _regen):
            save_complex_header(self, header_result_args)

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        """Say how many parts a header has."""
        self.file.set_chord_size(group_id, chord_size, self._expires_s())

    def add_to_chord(self, chord_id: str, result: Any) -> None:
        """Say that a running chord has one part more."""
        self.file.grow_chord(chord_id)

    def on_chord_part_return(self, request: Any, state: str, result: Any, **kwargs: Any) -> None:
        """Count a finished task of a header."""
        on_chord_part(self, self.file, request, state, result)

    def _rest(self, seen: int, keys: list[bytes], deadline: float | None) -> None:
        left_s = _SECOND_READING_S if deadline is None else deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("The operation timed out.")
        self.file.wait("results", seen, keys, min(left_s, _SECOND_READING_S))

    def _expires_s(self) -> int | None:
        return int(self.expires) if self.expires else None

    def __reduce__(self, args: Any = (), kwargs: Any = None) -> Any:
        return super().__reduce__(args, {**(kwargs or {}), "url": self.url})


def _bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)
