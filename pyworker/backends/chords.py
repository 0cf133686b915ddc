"""Chords counted in Redis, in the stock worker's keys, so that both kinds of worker may share one header."""

from __future__ import annotations

import logging
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pyworker.backends.chord_counting import CLAIM_S, ChordCounting, Part

if TYPE_CHECKING:
    from pyworker.backends.redis import RedisBackend

_DONE_S = 300
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


class ChordParts(ChordCounting):
    """Counts the parts of chords in Redis and sends their bodies; arguments as :class:`ChordCounting`."""

    def __init__(self, backend: RedisBackend, *, waits_aside: bool = False) -> None:
        super().__init__(backend, logging.getLogger("celery.backends.redis"), waits_aside=waits_aside)
        self._backend = backend
        source = (files("pyworker.backends") / "chord_part.lua").read_text()
        self._count = backend.client.register_script(source)
        self._extend = backend.client.register_script(_EXTEND)
        self._clean_up = backend.client.register_script(_CLEAN_UP)

    def _keys(self, group_id: str, *endings: str) -> list[str]:
        return [self._backend.group_key(group_id, ending) for ending in endings]

    def count(self, part: Part) -> int:
        """Count a part by the script ``chord_part.lua``."""
        backend = self._backend
        keys = self._keys(part.group_id, ".j", ".t", ".s", ".d", "", ".c")
        arguments: list[Any] = [
            part.task_id,
            part.value,
            int(backend.orders_chords),
            "+inf" if part.place is None else part.place,
            backend.chord_expires_s or 0,
            part.claim_s,
            part.token,
        ]
        return int(backend.call(lambda: self._count(keys=keys, args=arguments)))

    def extend(self, part: Part) -> bool:
        """Prolong the claim if it is still ours."""
        keys = self._keys(part.group_id, ".c")
        return bool(self._backend.call(lambda: self._extend(keys=keys, args=[part.token, CLAIM_S])))

    def finish(self, part: Part) -> None:
        """Delete the chord's keys and remember that it is done."""
        keys = self._keys(part.group_id, ".c", ".j", ".t", ".s", ".d")
        self._backend.call(lambda: self._clean_up(keys=keys, args=[part.token, _DONE_S]))

    def is_complex(self, group_id: str) -> bool:
        """Whether the header's structure was stored."""
        return bool(self._backend.call(self._backend.client.exists, self._backend.group_key(group_id)))

    def payloads(self, group_id: str) -> list[bytes]:
        """Read the parts in the header's order, or in the order of arrival."""
        client = self._backend.client
        read: Any = client.zrange if self._backend.orders_chords else client.lrange
        found: list[bytes] = self._backend.call(read, self._backend.group_key(group_id, ".j"), 0, -1)
        return found
