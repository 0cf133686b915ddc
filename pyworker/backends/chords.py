"""Chords counted in Redis, in the stock worker's keys, so that both kinds of worker may share one header."""

from __future__ import annotations

import logging
import threading
import time
from importlib.resources import files
from typing import TYPE_CHECKING, Any

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
    from pyworker.request import Context

logger = logging.getLogger("celery.backends.redis")

#: How long who completed a chord may take to send its body before somebody else does.
_CLAIM_S = 5
_DONE_S = 300
#: How often somebody else looks whether the body was sent, and for how long at most.
_FIRST_LOOK_S = 0.02
_NEXT_LOOK_S = 0.5
_LONGEST_WAIT_S = 600.0
_NOT_COMPLETE, _CLAIMED, _CLAIMED_BY_ANOTHER = range(3)
_EXTEND = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('EXPIRE', KEYS[1], ARGV[2])
end
return 0
"""
_CLEAN_UP = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[5])
  redis.call('SET', KEYS[1], 'done', 'EX', ARGV[2])
end
"""


class ChordParts:
    """Counts the parts of chords and sends their bodies.

    The part that completes a chord claims the body, sends it, and marks the chord as done. Who finds a complete chord
    that another has claimed (a task delivered twice, or one whose child was killed right here) waits until it is done
    and takes the claim over when it runs out: a body is lost with nobody. Its id was chosen with the chord.

    Args:
        backend: the store.
        waits_aside: wait for another's claim in a thread: the caller has more to do.
    """

    def __init__(self, backend: RedisBackend, *, waits_aside: bool = False) -> None:
        self._backend = backend
        self._waits_aside = waits_aside
        source = (files("pyworker.backends") / "chord_part.lua").read_text()
        self._count = backend.client.register_script(source)
        self._extend = backend.client.register_script(_EXTEND)
        self._clean_up = backend.client.register_script(_CLEAN_UP)

    def on_part(self, request: Context, state: str, result: Any) -> None:
        """Count a finished task of a header; send the body when it was the last one."""
        group_id, task_id = request.group, request.id
        if not group_id or not task_id:
            return
        backend = self._backend
        if backend.before_read is not None:
            backend.before_read()
        keys = [backend.group_key(group_id, ending) for ending in (".j", ".t", ".s", ".d", "", ".c")]
        token = uuid()
        part = backend.codec.encode([1, task_id, state, backend.prepared(result, state)])
        index = "+inf" if request.group_index is None else request.group_index
        claim_s = _CLAIM_S + int((backend.app.conf.result_chord_join_timeout or 0) * 2)
        arguments: list[Any] = [
            task_id,
            part,
            int(backend.orders_chords),
            index,
            backend.expires_s or 0,
            claim_s,
            token,
        ]

        def count() -> int:
            return int(backend.call(lambda: self._count(keys=keys, args=arguments)))

        def wait() -> None:
            if self._wait_for_claim(count, group_id):
                self._complete(request, group_id, keys, token)

        counted = count()
        if counted == _CLAIMED:
            self._complete(request, group_id, keys, token)
        elif counted == _CLAIMED_BY_ANOTHER and self._waits_aside:
            threading.Thread(target=wait, name=f"chord {group_id}", daemon=True).start()
        elif counted == _CLAIMED_BY_ANOTHER:
            wait()

    @staticmethod
    def _wait_for_claim(count: Callable[[], int], group_id: str) -> bool:
        """Wait until somebody else has sent the body, or its claim ran out; returns whether it is ours now."""
        end = time.monotonic() + _LONGEST_WAIT_S
        pause_s = _FIRST_LOOK_S
        counted = _CLAIMED_BY_ANOTHER
        while counted == _CLAIMED_BY_ANOTHER:
            if time.monotonic() > end:
                logger.error("Chord %r is complete, but who claimed its body neither sends it nor gives up", group_id)
                return False
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, _NEXT_LOOK_S)
            counted = count()
        return counted == _CLAIMED

    def _complete(self, request: Context, group_id: str, keys: list[str], token: str) -> None:
        app = self._backend.app
        body = maybe_signature(request.chord, app=app)
        try:
            values = self._values(group_id, keys[0])
            if not self._backend.call(lambda: self._extend(keys=[keys[5]], args=[token, _CLAIM_S])):
                logger.warning("Chord %r took too long to be joined: another has claimed its body", group_id)
                return
            body.delay(values)
        except ChordError as error:
            logger.error("Chord %r raised: %r", group_id, error, exc_info=True)
            fail_chord(app, body, error)
        except Exception as error:
            logger.exception("Chord callback for %r raised: %r", group_id, error)
            fail_chord(app, body, ChordError(f"Callback error: {error!r}"))
        self._backend.call(lambda: self._clean_up(
            keys=[keys[5], keys[0], keys[1], keys[2], keys[3]], args=[token, _DONE_S]
        ))  # fmt: skip

    def _values(self, group_id: str, key: str) -> list[Any]:
        """The header's results in order.

        Raises:
            ChordError: one of them is a failure.
        """
        backend = self._backend
        if backend.call(lambda: backend.client.exists(backend.group_key(group_id))):
            whole = GroupResult.restore(group_id, app=backend.app)
            with allow_join_result():
                values: list[Any] = whole.get(timeout=backend.app.conf.result_chord_join_timeout)
            return values
        read = backend.client.zrange if backend.orders_chords else backend.client.lrange
        return [self._value(payload) for payload in backend.call(lambda: read(key, 0, -1))]

    def _value(self, payload: bytes) -> Any:
        _, task_id, state, value = self._backend.codec.decode(payload)
        if state in states.EXCEPTION_STATES:
            raise chord_error(task_id, self._backend.codec.exception_of(value))
        return value
