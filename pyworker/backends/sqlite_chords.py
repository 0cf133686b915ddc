"""Chords counted in a SQLite file."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from pyworker.backends.chord_counting import CLAIM_S, ChordCounting, Part

if TYPE_CHECKING:
    from pyworker.backends.sqlite import SqliteBackend


class SqliteChordParts(ChordCounting):
    """Counts the parts of chords in a file and sends their bodies; arguments as :class:`ChordCounting`."""

    def __init__(self, backend: SqliteBackend, *, waits_aside: bool = False) -> None:
        super().__init__(backend, logging.getLogger("celery.backends.sqlite"), waits_aside=waits_aside)
        self._backend = backend

    def count(self, part: Part) -> int:
        """Count a part in a transaction of its own."""
        backend = self._backend
        index = part.place if backend.orders_chords else None
        return backend.call(
            lambda: backend.file.add_chord_part(
                part.group_id,
                f"{part.task_id}:{part.place}",
                math.inf if index is None else float(index),
                part.value,
                token=part.token,
                claim_s=part.claim_s,
                expires_s=backend.chord_expires_s,
            )
        )

    def extend(self, part: Part) -> bool:
        """Prolong the claim if it is still ours."""
        return self._backend.call(self._backend.file.extend_chord_claim, part.group_id, part.token, CLAIM_S)

    def finish(self, part: Part) -> None:
        """Delete the parts and remember that the chord is done."""
        self._backend.call(self._backend.file.finish_chord, part.group_id, part.token)

    def is_complex(self, group_id: str) -> bool:
        """Whether the header's structure was stored."""
        return self._backend.restore_group(group_id) is not None

    def payloads(self, group_id: str) -> list[bytes]:
        """Read the parts in the header's order, or in the order of arrival."""
        return self._backend.call(self._backend.file.chord_parts, group_id)
