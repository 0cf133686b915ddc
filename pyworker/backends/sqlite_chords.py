"""Chords counted in a SQLite file: each part once, the body sent by one worker alone."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

from pyworker import states
from pyworker.canvas import maybe_signature
from pyworker.current import allow_join_result
from pyworker.exceptions import ChordError
from pyworker.followups import chord_error, fail_chord
from pyworker.identifiers import uuid
from pyworker.result import GroupResult

if TYPE_CHECKING:
    from pyworker.backends.sqlite import SqliteBackend
    from pyworker.request import Context

logger = logging.getLogger("celery.backends.sqlite")

_SHORTEST_CLAIM_S = 30


class SqliteChordParts:
    """Counts the parts of chords and sends their bodies."""

    def __init__(self, backend: SqliteBackend) -> None:
        self._backend = backend

    def on_part(self, request: Context, state: str, result: Any) -> None:
        """Count a finished task of a header; send the body when it was the last one."""
        group_id, task_id = request.group, request.id
        if not group_id or not task_id:
            return
        backend = self._backend
        if backend.before_read is not None:
            backend.before_read()
        token = uuid()
        index = request.group_index if backend.orders_chords else None
        part = backend.codec.encode([1, task_id, state, backend.prepared(result, state)])
        completed = backend.call(lambda: backend.file.add_chord_part(
            group_id,
            f"{task_id}:{request.group_index}",
            math.inf if index is None else float(index),
            part,
            token=token,
            claim_s=max(_SHORTEST_CLAIM_S, (backend.app.conf.result_chord_join_timeout or 0) * 2),
            expires_s=backend.expires_s,
        ))  # fmt: skip
        if completed:
            self._complete(request, group_id, token)

    def _complete(self, request: Context, group_id: str, token: str) -> None:
        backend = self._backend
        body = maybe_signature(request.chord, app=backend.app)
        try:
            body.delay(self._values(group_id))
        except ChordError as error:
            logger.error("Chord %r raised: %r", group_id, error, exc_info=True)
            fail_chord(backend.app, body, error)
        except Exception as error:
            logger.exception("Chord callback for %r raised: %r", group_id, error)
            fail_chord(backend.app, body, ChordError(f"Callback error: {error!r}"))
        backend.call(backend.file.finish_chord, group_id, token)

    def _values(self, group_id: str) -> list[Any]:
        """The header's results in order.

        Raises:
            ChordError: one of them is a failure.
        """
        backend = self._backend
        if backend.restore_group(group_id) is not None:
            whole = GroupResult.restore(group_id, app=backend.app)
            with allow_join_result():
                values: list[Any] = whole.get(timeout=backend.app.conf.result_chord_join_timeout)
            return values
        return [self._value(payload) for payload in backend.call(backend.file.chord_parts, group_id)]

    def _value(self, payload: bytes) -> Any:
        _, task_id, state, value = self._backend.codec.decode(payload)
        if state in states.EXCEPTION_STATES:
            raise chord_error(task_id, self._backend.codec.exception_of(value))
        return value
