"""Results in a SQLite file: the store of the embedded broker, readable by every process of the machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pyworker import states
from pyworker._native import NativeError
from pyworker.backends.base import Meta
from pyworker.backends.storing import StoringBackend
from pyworker.backends.wait_clock import WaitClock
from pyworker.transport.sqlite_file import check_file, open_file
from pyworker.transport.sqlite_url import parse_sqlite_url, url_of

if TYPE_CHECKING:
    from pyworker._native import SqliteFile
    from pyworker.app import Celery


class SqliteBackend(StoringBackend):
    """A result store in a file; safe across threads and forks.

    Raises:
        ImproperlyConfigured: the URL, the file or a setting is not usable.
    """

    errors = NativeError

    def __init__(self, app: Celery, url: str) -> None:
        super().__init__(app, url)
        self.address = parse_sqlite_url(url, setting="result_backend", options=self.options)
        check_file(self.address, setting="result_backend")

    @cached_property
    def file(self) -> SqliteFile:
        """The open file.

        Raises:
            ImproperlyConfigured: it is not to be used.
            OperationalError: it cannot be reached now.
        """
        return open_file(self.address, setting="result_backend")

    def as_uri(self, include_password: bool = False) -> str:
        """Return the file's URL."""
        return url_of(self.address)

    # -- reading

    def read_values(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        """Read the values of keys, in their order."""
        return self.call(self.file.get_many, [key.encode() for key in keys])

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
        clock = WaitClock(timeout_s, on_interval)
        waited = dict.fromkeys(task_ids)
        told: dict[str, str] = {}
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
            clock.require_time()
            clock.tick()
            keys = [self.task_key(task_id).encode() for task_id in waited]
            self.file.wait("results", seen, keys, clock.step_s())

    # -- writing

    def write_result(self, key: bytes, value: bytes, is_success: bool) -> None:
        """Store a value unless a success is there; it is on the disk when this returns."""
        self.call(lambda: self.file.set(key, value, is_success=is_success, protected=True, expires_s=self.expires_s))

    def write_value(self, key: str, value: bytes) -> None:
        """Store a value that is no task's result."""
        self.call(lambda: self.file.set(key.encode(), value, expires_s=self.expires_s))

    def delete_value(self, key: str) -> None:
        """Delete a value."""
        self.call(self.file.delete, [key.encode()])

    # -- chords

    def set_chord_size(self, group_id: str, size: int) -> None:
        """Say how many parts a chord's header has; the chord may be applied anew."""
        self.call(self.file.set_chord_size, group_id, size, self.chord_expires_s)

    def add_to_chord(self, group_id: str, result: Any) -> None:
        """Say that a running chord's header has one part more."""
        self.call(self.file.grow_chord, group_id)

    def close(self) -> None:
        """Close this process's connections; the handle stays usable."""
        self.file.close()

    def may_pass(self, error: Any) -> bool:
        """Whether the file was busy for too long."""
        return bool(error.retryable)
