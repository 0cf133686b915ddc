"""Chords counted in a file: each part once, one claim of the body, and a dead claim is taken over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyworker._native import SqliteFile
from pyworker.worker.sqlite_config import SqliteAddress
from support.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

NOTHING, CLAIMED, CLAIMED_BY_ANOTHER = range(3)


def count(file: SqliteFile, task: str, token: str, claim_s: float = 60) -> int:
    return file.add_chord_part("chord", task, 0.0, task.encode(), token=token, claim_s=claim_s, expires_s=None)


def test_a_body_has_one_claim_until_it_runs_out(tmp_path: Path) -> None:
    file = SqliteFile(SqliteAddress(path=str(tmp_path / "queue.db")))
    file.set_chord_size("chord", 2, None)
    assert [count(file, "a", "first"), count(file, "a", "again")] == [NOTHING, NOTHING]
    assert count(file, "b", "dies", claim_s=0.05) == CLAIMED
    # Another delivery of either part, while the claim lasts and when it is over.
    eventually(lambda: count(file, "a", "heir") == CLAIMED, deadline_s=60, what="the claim of the dead runs out")
    assert count(file, "b", "third") == CLAIMED_BY_ANOTHER
    assert not file.extend_chord_claim("chord", "dies", 60)
    file.finish_chord("chord", "dies")
    assert count(file, "b", "third") == CLAIMED_BY_ANOTHER
    assert file.extend_chord_claim("chord", "heir", 60)
    assert sorted(file.chord_parts("chord")) == [b"a", b"b"]
    file.finish_chord("chord", "heir")
    assert [count(file, task, "late") for task in "ab"] == [NOTHING, NOTHING]
    assert file.chord_parts("chord") == []
    # Applied anew, it is counted anew.
    file.set_chord_size("chord", 1, None)
    assert count(file, "a", "second life") == CLAIMED
