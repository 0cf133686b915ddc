"""The state that events draw: the same as Celery's for any stream of events, by the same names."""

from __future__ import annotations

import inspect
import logging
import pickle
from typing import Any

import celery.events
import celery.events.dispatcher
import celery.events.receiver
import celery.events.snapshot
import celery.events.state
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pyworker
import pyworker.events
import pyworker.events.snapshot
import pyworker.events.state
from pyworker.events.bounded import RecentlyUsed

NODES = ("a@host", "b@host")
WORKER_TYPES = ("worker-online", "worker-heartbeat", "worker-offline", "worker-custom")
TASK_TYPES = tuple(
    f"task-{subject}"
    for subject in ("sent", "received", "started", "succeeded", "failed", "retried", "revoked", "rejected", "progress")
)
TASK_IDS = tuple(f"id-{number}" for number in range(6))


def _fields(draw: Any, kind: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if kind in ("task-received", "task-sent"):
        fields |= {
            "name": draw(st.sampled_from(("t.add", "t.mul"))), "args": "(1,)", "kwargs": "{}", "retries": 0,
            "root_id": draw(st.sampled_from((None, *TASK_IDS))), "parent_id": draw(st.sampled_from((None, *TASK_IDS))),
            "eta": None, "expires": None,
        }  # fmt: skip
    elif kind == "task-succeeded":
        fields |= {"result": "3", "runtime": 0.25}
    elif kind == "task-failed":
        fields |= {"exception": "ValueError()", "traceback": "..."}
    elif kind.startswith("worker"):
        fields |= {"freq": 2.0, "active": draw(st.integers(0, 3)), "loadavg": [0.5], "sw_ident": "py-celery"}
    return fields


@st.composite
def streams(draw: Any) -> list[dict[str, Any]]:
    """Events in any order, some clocks equal or missing, some without what a worker's event must have."""
    events = []
    for _ in range(draw(st.integers(1, 40))):
        kind = draw(st.sampled_from(WORKER_TYPES + TASK_TYPES * 2 + ("other-thing",)))
        clock = draw(st.integers(1, 30))
        event = {
            "type": kind, "hostname": draw(st.sampled_from(NODES)), "pid": 7, "clock": clock, "utcoffset": 0,
            "timestamp": 1000.0 + draw(st.integers(0, 50)), "local_received": 1000.0 + draw(st.integers(0, 50)),
            **_fields(draw, kind),
        }  # fmt: skip
        if kind.startswith("task"):
            event["uuid"] = draw(st.sampled_from(TASK_IDS))
        elif draw(st.integers(0, 9)) == 0:
            del event["timestamp"]
        events.append(event)
    return events


def seen(state: Any) -> dict[str, Any]:
    """Everything that a state shows."""
    tasks = dict(state.itertasks())
    return {
        "counts": (state.event_count, state.task_count),
        "types": state.task_types(),
        "tasks": {key: _task(task) for key, task in tasks.items()},
        "by time": [key for key, _ in state.tasks_by_time()],
        "by time, oldest first": [key for key, _ in state.tasks_by_time(reverse=False)],
        "by timestamp, limited": [key for key, _ in state.tasks_by_timestamp(limit=3)],
        "by type": {name: sorted(task.uuid for task in state.tasks_by_type[name]) for name in state.task_types()},
        "by type, in order": {name: [key for key, _ in state.tasks_by_type(name)] for name in state.task_types()},
        "by worker": {
            name: [key for key, _ in state.tasks_by_worker(name, limit=4)]
            for name in NODES
            if all(task.worker is not None for task in tasks.values())
        },
        "workers": {name: _worker(worker) for name, worker in state.workers.items()},
        "text": repr(state),
    }


def _task(task: Any) -> dict[str, Any]:
    shown = task.as_dict()
    shown["worker"] = task.worker and task.worker.hostname
    shown["children"] = sorted(shown["children"])
    relatives = {"parent": task.parent and task.parent.uuid, "root": task.root and task.root.uuid}
    return {**shown, **{f"its {key}": value for key, value in relatives.items()}, "origin": task.origin,
            "ready": task.ready, "info": task.info(extra=["pid", "nothing"]), "text": repr(task)}  # fmt: skip


def _worker(worker: Any) -> dict[str, Any]:
    shown = {name: getattr(worker, name) for name in worker._fields}
    return {**shown, "id": worker.id, "alive": worker.alive, "text": repr(worker)}


@settings(max_examples=150)
@given(streams())
def test_any_stream_draws_the_same_picture(events: list[dict[str, Any]]) -> None:
    logging.getLogger("celery.events.state").setLevel(logging.ERROR)
    heard: dict[str, list[Any]] = {"celery": [], "pyworker": []}

    def made(module: Any, name: str) -> Any:
        note = heard[name].append
        return module.State(
            callback=lambda _state, event: note(event["type"]),
            on_node_join=lambda worker: note(("join", worker.hostname)),
            on_node_leave=lambda worker: note(("leave", worker.hostname)),
        )  # fmt: skip

    theirs, ours = made(celery.events.state, "celery"), made(pyworker.events.state, "pyworker")
    for event in events:
        for state in (theirs, ours):
            state.event(dict(event))
    assert seen(ours) == seen(theirs)
    assert heard["pyworker"] == heard["celery"]
    for state in (theirs, ours):
        state.rebuild_taskheap()
    assert sorted(seen(ours)["by time"]) == sorted(seen(theirs)["by time"])
    for state in (theirs, ours):
        state.clear_tasks()
    assert seen(ours)["tasks"].keys() == seen(theirs)["tasks"].keys()
    for state in (theirs, ours):
        state.clear(ready=False)
    # Celery's tasks die with the next collection of cycles only, so that its indexes still know them.
    for name in ("counts", "types", "tasks", "by time", "workers"):
        assert seen(ours)[name] == seen(theirs)[name]


@settings(max_examples=50)
@given(streams())
def test_the_same_tasks_are_forgotten(events: list[dict[str, Any]]) -> None:
    logging.getLogger("celery.events.state").setLevel(logging.ERROR)
    theirs, ours = (module.State(max_tasks_in_memory=3) for module in (celery.events.state, pyworker.events.state))
    for event in events:
        for state in (theirs, ours):
            state.event(dict(event))
        assert list(ours.tasks.data) == list(theirs.tasks.data)


def test_a_state_is_pickled_with_what_it_knows() -> None:
    app = pyworker.Celery("pickled", set_as_current=False)
    state = app.events.State()
    common = {"hostname": "a@host", "timestamp": 10.0, "local_received": 10.0, "pid": 1}
    state.event({"type": "worker-online", "clock": 1, "freq": 2, **common})
    state.event({"type": "task-received", "uuid": "parent", "name": "t.add", "clock": 2, **common})
    state.event(
        {"type": "task-received", "uuid": "child", "name": "t.mul", "parent_id": "parent", "clock": 3, **common}
    )
    again = pickle.loads(pickle.dumps(state))
    assert type(again) is pyworker.events.state.State
    assert [key for key, _ in again.tasks_by_time()] == ["child", "parent"]
    assert [task.uuid for task in again.tasks_by_type["t.add"]] == ["parent"]
    assert again.tasks["child"].parent is again.tasks["parent"]
    assert again.workers["a@host"].pid == 1


def test_a_group_of_ones_own_has_its_handler() -> None:
    state = pyworker.events.state.State()
    state.handlers["order"] = lambda subject, event: (subject, event["number"])
    assert state.event({"type": "order-paid", "number": 3}) == (("paid", 3), "paid")
    assert state.event({"type": "unknown-thing"}) is None
    assert state.event_count == 2


def test_a_frozen_state_takes_nothing_in_and_may_be_cleared() -> None:
    state = pyworker.events.state.State()
    state.event({"type": "worker-online", "hostname": "a", "timestamp": 1.0, "local_received": 1.0, "clock": 1})
    assert state.freeze_while(lambda: [*state.workers], clear_after=True) == ["a"]
    assert not state.workers
    assert state.event_count == 0


def test_the_least_recently_used_entry_goes_first() -> None:
    entries: RecentlyUsed[str, int] = RecentlyUsed(2)
    entries["a"], entries["b"] = 1, 2
    assert entries["a"] == 1
    entries["c"] = 3
    assert list(entries) == ["a", "c"]
    assert list(entries.data.items()) == list(entries.items())


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (celery.events.receiver.EventReceiver, pyworker.events.EventReceiver),
        (celery.events.dispatcher.EventDispatcher, pyworker.events.EventDispatcher),
        (celery.events.state.State, pyworker.events.state.State),
        (celery.events.state.Worker, pyworker.events.state.Worker),
        (celery.events.snapshot.Polaroid, pyworker.events.snapshot.Polaroid),
    ],
    ids=lambda each: f"{each.__module__.partition('.')[0]}.{each.__name__}",
)
def test_classes_have_celerys_members_and_arguments(theirs: Any, ours: Any) -> None:
    public = {name for name in dir(theirs) if not name.startswith("_")} - set(getattr(theirs, "_fields", ()))
    from_kombu = {name for base in theirs.__mro__ if base.__module__.startswith("kombu") for name in vars(base)}
    assert public - set(dir(ours)) - from_kombu <= {"logger", "heap_multiplier", "on_enabled", "on_disabled"} | {
        "event_count", "task_count", "event",
    }  # fmt: skip
    for name in ("__init__", *sorted(public)):
        method = getattr(theirs, name, None)
        if inspect.isfunction(method) and name in vars(theirs):
            wanted = [key for key in inspect.signature(method).parameters if key not in _TRICKS]
            found = [key for key in inspect.signature(getattr(ours, name)).parameters if key not in _TRICKS]
            assert found[: len(wanted)] == wanted or set(wanted) <= set(found) | {"kwargs"}, name


#: Arguments that make locals of globals, and collections of further ones.
_TRICKS = frozenset((
    "kwargs", "_options", "exc_info", "_error", "tzfields", "adjust_timestamp", "CLIENT_CLOCK_SKEW", "list",
    "isinstance", "timetuple",
))  # fmt: skip
