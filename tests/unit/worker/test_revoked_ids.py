"""Revoked ids: Celery's bounds, and a state database that either library's worker reads."""

from __future__ import annotations

import pickle
import shelve
import zlib
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from celery.utils.collections import LimitedSet
from celery.worker import state as celery_state
from kombu.clocks import LamportClock

from pyworker.worker.revoked_ids import RevokedIds, StateDatabase

if TYPE_CHECKING:
    from pathlib import Path


def _stock_state(revoked: LimitedSet) -> SimpleNamespace:
    return SimpleNamespace(revoked=revoked, merge_revoked=lambda ids: revoked.update(list(ids)))


def test_the_oldest_ids_go_first() -> None:
    ids = RevokedIds(count=2, life_s=1000.0)
    ids.add(["a", "b"])
    ids.add(["a"])
    ids.add(["c"])
    assert ids.ids() == ["a", "c"]
    assert "b" not in ids


def test_ids_are_forgotten_after_their_time() -> None:
    ids = RevokedIds(count=10, life_s=0.0)
    ids.add(["a"])
    assert "a" not in ids
    assert ids.ids() == []


def test_new_ids_are_told_once_for_all() -> None:
    told: list[list[str]] = []
    ids = RevokedIds()
    ids.on_added = told.append
    ids.add(["a", "b"])
    ids.add([])
    assert told == [["a", "b"]]


def test_a_stock_worker_reads_what_we_wrote(tmp_path: Path) -> None:
    path = str(tmp_path / "state")
    StateDatabase(path).save(["first", "second"], 41)
    revoked, clock = LimitedSet(maxlen=10), LamportClock()
    persistent = celery_state.Persistent(_stock_state(revoked), path, clock)
    persistent.close()
    assert list(revoked) == ["first", "second"]
    assert clock.value == 42


def test_we_read_what_a_stock_worker_wrote(tmp_path: Path) -> None:
    path = str(tmp_path / "state")
    revoked, clock = LimitedSet(maxlen=10), LamportClock(6)
    persistent = celery_state.Persistent(_stock_state(revoked), path, clock)
    revoked.add("first")
    revoked.add("second")
    persistent.save()
    task_ids, time = StateDatabase(path).load()
    assert task_ids == ["first", "second"]
    assert time >= 6


def test_a_new_file_is_empty(tmp_path: Path) -> None:
    assert StateDatabase(str(tmp_path / "state")).load() == ([], 0)


def test_a_file_with_code_in_it_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "state")
    with shelve.open(path) as shelf:
        shelf["zrevoked"] = zlib.compress(pickle.dumps(print))
    with pytest.raises(pickle.UnpicklingError, match="builtins.print"):
        StateDatabase(path).load()
