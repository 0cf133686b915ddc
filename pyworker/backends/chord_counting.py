"""When the body of a chord is sent, and by whom; how parts are counted is the store's.

The part that completes a chord claims the body, sends it, and marks the chord as done. Who finds a complete chord that
another has claimed (a task delivered twice, or one whose child was killed right here) waits until it is done and takes
the claim over when it runs out: a body is lost with nobody. Its id was chosen with the chord.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

from pyworker import states
from pyworker.canvas import maybe_signature
from pyworker.current import allow_join_result
from pyworker.exceptions import ChordError
from pyworker.followups import chord_error, fail_chord
from pyworker.identifiers import uuid
from pyworker.result import GroupResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyworker.backends.redis import RedisBackend
    from pyworker.backends.sqlite import SqliteBackend
    from pyworker.request import Context

#: What the count of a part came to.
NOTHING, CLAIMED, CLAIMED_BY_ANOTHER = range(3)
#: How long who completed a chord may take to send its body before somebody else does.
CLAIM_S = 5
#: How often somebody else looks whether the body was sent, and for how long at most.
_FIRST_LOOK_S = 0.02
_NEXT_LOOK_S = 0.5
_LONGEST_WAIT_S = 600.0


class Part(NamedTuple):
    """A finished task of a header."""

    group_id: str
    task_id: str
    #: Its place in the header, None if it has none.
    place: int | None
    #: Its encoded outcome.
    value: bytes
    #: Names the claim that counting it may lead to, and how long that lasts.
    token: str
    claim_s: int


class ChordCounting(ABC):
    """Counts the parts of chords and sends their bodies.

    Args:
        backend: the store.
        logger: where failures are told.
        waits_aside: wait for another's claim in a thread: the caller has more to do.
    """

    def __init__(
        self, backend: RedisBackend | SqliteBackend, logger: logging.Logger, *, waits_aside: bool = False
    ) -> None:
        self._store = backend
        self._logger = logger
        self._waits_aside = waits_aside

    @abstractmethod
    def count(self, part: Part) -> int:
        """Count a part once, however often it comes, and claim the body if all are there and nobody has it."""

    @abstractmethod
    def extend(self, part: Part) -> bool:
        """Prolong the claim; False if it is no longer ours."""

    @abstractmethod
    def finish(self, part: Part) -> None:
        """Forget the parts and remember that the body was sent, if the claim is still ours."""

    @abstractmethod
    def is_complex(self, group_id: str) -> bool:
        """Whether the header has groups inside, so that its structure was stored."""

    @abstractmethod
    def payloads(self, group_id: str) -> list[bytes]:
        """Return the parts' encoded outcomes in order."""

    def on_part(self, request: Context, state: str, result: Any) -> None:
        """Count a finished task of a header; send the body when it was the last one."""
        if not request.group or not request.id:
            return
        store = self._store
        if store.before_read is not None:
            store.before_read()
        value = store.codec.encode([1, request.id, state, store.prepared(result, state)])
        claim_s = CLAIM_S + int((store.app.conf.result_chord_join_timeout or 0) * 2)
        part = Part(request.group, request.id, request.group_index, value, uuid(), claim_s)
        counted = self.count(part)
        if counted == CLAIMED:
            self._complete(request, part)
        elif counted == CLAIMED_BY_ANOTHER and self._waits_aside:
            threading.Thread(
                target=self._wait, args=(request, part), name=f"chord {part.group_id}", daemon=True
            ).start()
        elif counted == CLAIMED_BY_ANOTHER:
            self._wait(request, part)

    def _wait(self, request: Context, part: Part) -> None:
        if is_ours_at_last(lambda: self.count(part), part.group_id, self._logger):
            self._complete(request, part)

    def _complete(self, request: Context, part: Part) -> None:
        app, group_id = self._store.app, part.group_id
        body = maybe_signature(request.chord, app=app)
        try:
            values = self._values(group_id)
            if not self.extend(part):
                self._logger.warning("Chord %r took too long to be joined: another has claimed its body", group_id)
                return
            body.delay(values)
        except ChordError as error:
            self._logger.error("Chord %r raised: %r", group_id, error, exc_info=True)
            fail_chord(app, body, error)
        except Exception as error:
            self._logger.exception("Chord callback for %r raised: %r", group_id, error)
            fail_chord(app, body, ChordError(f"Callback error: {error!r}"))
        self.finish(part)

    def _values(self, group_id: str) -> list[Any]:
        """The header's results in order.

        Raises:
            ChordError: one of them is a failure.
        """
        if self.is_complex(group_id):
            app = self._store.app
            whole = GroupResult.restore(group_id, app=app)
            try:
                with allow_join_result():
                    values: list[Any] = whole.get(timeout=app.conf.result_chord_join_timeout)
            except Exception as error:
                raise ChordError(f"Join error: {error!r}") from error
            return values
        return [self._value(payload) for payload in self.payloads(group_id)]

    def _value(self, payload: bytes) -> Any:
        codec = self._store.codec
        _, task_id, state, value = codec.decode(payload)
        if state in states.EXCEPTION_STATES:
            raise chord_error(task_id, codec.exception_of(value))
        return value


def is_ours_at_last(count: Callable[[], int], group_id: str, logger: logging.Logger) -> bool:
    """Wait until somebody else has sent the body, or its claim ran out; returns whether it is ours now."""
    end = time.monotonic() + _LONGEST_WAIT_S
    pause_s = _FIRST_LOOK_S
    counted = CLAIMED_BY_ANOTHER
    while counted == CLAIMED_BY_ANOTHER:
        if time.monotonic() > end:
            logger.error("Chord %r is complete, but who claimed its body neither sends it nor gives up", group_id)
            return False
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, _NEXT_LOOK_S)
        counted = count()
    return counted == CLAIMED
