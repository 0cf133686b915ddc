"""Chords of a Celery application counted in a SQLite file, in the rows that pyworker's own library uses.

Each part counts once, however often its task ran, and one worker alone claims the body. Celery's key-value code
would count deliveries instead, and needs the whole group stored by the client.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from celery import states
from celery.canvas import maybe_signature
from celery.exceptions import ChordError
from celery.result import GroupResult, allow_join_result
from celery.utils.log import get_logger

from pyworker.backends.chord_counting import CLAIM_S, CLAIMED_BY_ANOTHER, NOTHING, is_ours_at_last

if TYPE_CHECKING:
    from pyworker._native import SqliteFile

logger = get_logger("celery.backends.sqlite")


def on_chord_part(backend: Any, file: SqliteFile, request: Any, state: str, result: Any) -> None:
    """Count a finished task of a header; send the body when it was the last one."""
    group_id, task_id, index = request.group, request.id, request.group_index
    if not group_id or not task_id:
        return
    app, token = backend.app, uuid4().hex
    part = backend.encode([1, task_id, state, backend.encode_result(result, state)])

    def count() -> int:
        return file.add_chord_part(
            group_id,
            f"{task_id}:{index}",
            math.inf if index is None else float(index),
            part.encode() if isinstance(part, str) else part,
            token=token,
            claim_s=CLAIM_S + (app.conf.result_chord_join_timeout or 0) * 2,
            expires_s=backend.expires,
        )

    counted = count()
    if counted == NOTHING or (counted == CLAIMED_BY_ANOTHER and not is_ours_at_last(count, group_id, logger)):
        return
    body = maybe_signature(request.chord, app=app)
    try:
        values = _values(backend, file, group_id)
        if not file.extend_chord_claim(group_id, token, CLAIM_S):
            logger.warning("Chord %r took too long to be joined: another has claimed its body", group_id)
            return
        body.delay(values)
    except ChordError as error:
        logger.error("Chord %r raised: %r", group_id, error, exc_info=True)
        backend.chord_error_from_stack(body, exc=error)
    except Exception as error:
        logger.exception("Chord callback for %r raised: %r", group_id, error)
        backend.chord_error_from_stack(body, exc=ChordError(f"Callback error: {error!r}"))
    file.finish_chord(group_id, token)


def save_complex_header(backend: Any, header_result_args: Any) -> None:
    """Store a header's structure if it has groups inside; a plain one is made of its parts alone."""
    header = backend.app.GroupResult(*header_result_args)
    if any(isinstance(member, GroupResult) for member in header.results):
        header.save(backend=backend)


def _values(backend: Any, file: SqliteFile, group_id: str) -> list[Any]:
    header = GroupResult.restore(group_id, app=backend.app)
    if header is not None:
        header.on_ready()
        try:
            with allow_join_result():
                joined: list[Any] = header.join_native(timeout=backend.app.conf.result_chord_join_timeout)
        except Exception as error:
            raise ChordError(f"Join error: {error!r}") from error
        return joined
    return [_value(backend, part) for part in file.chord_parts(group_id)]


def _value(backend: Any, part: bytes) -> Any:
    _, task_id, state, value = backend.decode(part)
    if state in states.EXCEPTION_STATES:
        raise ChordError(f"Dependency {task_id} raised {backend.exception_to_python(value)!r}")
    if state in states.PROPAGATE_STATES:
        raise ChordError(f"Dependency {task_id} raised {value!r}")
    return value
