"""Celery's set of revoked ids drives the engine."""

from __future__ import annotations

import pickle
import time

from celery.utils.collections import LimitedSet
from celery.worker import request, state

from pyworker.compat.celery.revocations import unwatch_revoked, watch_revoked
from support.notices import RecordingEngine


def test_ids_revoked_before_the_engine_existed_reach_it() -> None:
    state.revoked.add("early")
    engine = RecordingEngine()
    watch_revoked(engine)  # type: ignore[arg-type]
    assert engine.revoked == ["early"]


def test_every_way_to_add_reaches_the_engine() -> None:
    engine = RecordingEngine()
    watch_revoked(engine)  # type: ignore[arg-type]
    state.revoked.add("one")
    state.revoked.update({"two"})
    state.revoked.update(name for name in ["three"])
    state.revoked.update(LimitedSet(data={"four": time.monotonic()}))
    request.revoked_tasks.add("five")
    assert engine.revoked == ["one", "two", "three", "four", "five"]
    assert all(name in state.revoked for name in engine.revoked)


def test_state_is_pickled_as_the_plain_set() -> None:
    watch_revoked(RecordingEngine())  # type: ignore[arg-type]
    state.revoked.add("one")
    copy = pickle.loads(pickle.dumps(state.revoked))
    assert type(copy) is LimitedSet
    assert "one" in copy


def test_unwatched_set_is_the_plain_one_again() -> None:
    engine = RecordingEngine()
    watch_revoked(engine)  # type: ignore[arg-type]
    unwatch_revoked()
    state.revoked.add("late")
    assert engine.revoked == []
    assert type(state.revoked) is LimitedSet
