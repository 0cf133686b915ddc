"""Task and worker events: the same workload on a stock worker and on ours, the streams compared."""

from __future__ import annotations

import json
import signal
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import pytest

from support.event_recorder import Recorder, view
from support.kinds import KINDS, OWN
from support.pair import pair
from support.stage import Stage
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterable

    from support.kinds import Kind

_DEADLINE_S = 60.0
#: What a worker of another library says of itself.
_OF_THE_LIBRARY = ("sw_ident", "sw_ver")


def _workload(stage: Stage) -> dict[str, str]:
    """Run tasks of every fate; returns the last event that each is waited for with."""
    tasks = stage.tasks
    eta = "2030-01-01T00:00:00+00:00"
    tasks.gated.apply_async(("held",), task_id="terminated")
    stage.wait_for_journal("held", 1, deadline_s=_DEADLINE_S)
    stage.app.control.revoke("terminated", terminate=True, signal="SIGKILL", destination=[stage.worker.node_name])
    tasks.gated.apply_async(("never",), task_id="timed-out", time_limit=1)
    tasks.add.apply_async((1, 2), task_id="succeeds")
    tasks.raising.apply_async(("no",), task_id="fails", shadow="shadowed-name")
    tasks.retry_without_exception.apply_async(task_id="retries")
    tasks.ignored.apply_async(task_id="ignored")
    tasks.rejected.apply_async(("events",), task_id="rejected")
    tasks.add.apply_async((1, 2), task_id="expired", expires=-10)
    tasks.add.apply_async((1, 2), task_id="scheduled", eta=eta, priority=3, root_id="a-root", parent_id="a-parent")
    tasks.show.apply_async(("é" * 300,), task_id="long")
    tasks.kill_own_process.apply_async(("events",), task_id="lost")
    stage.app.control.revoke("revoked", destination=[stage.worker.node_name])
    eventually(lambda: "flagged as revoked: revoked" in stage.worker.log, deadline_s=_DEADLINE_S)
    tasks.add.apply_async((1, 2), task_id="revoked")
    return {
        "terminated": "task-revoked", "timed-out": "task-failed",
        "succeeds": "task-succeeded", "fails": "task-failed", "retries": "task-retried", "ignored": "task-started",
        "rejected": "task-rejected", "expired": "task-revoked", "scheduled": "task-received", "long": "task-succeeded",
        "lost": "task-failed", "revoked": "task-revoked",
    }  # fmt: skip


def _record(stage: Stage) -> dict[str, Any]:
    with Recorder(stage.app) as recorder:
        awaited = _workload(stage)

        def all_there() -> bool:
            missing = {task_id: kind for task_id, kind in awaited.items() if kind not in recorder.types(task_id)}
            assert not missing, f"not seen yet: {missing}"
            return True

        eventually(all_there, deadline_s=_DEADLINE_S)
        # A receiver asks for heartbeats when it starts; those say less.
        heartbeat = eventually(lambda: [beat for beat in recorder.of_type("worker-heartbeat") if "active" in beat])[-1]
        seen = recorder.of_tasks()
        # Not waited for: a stock worker that lost a child does not always end.
        stage.worker.send(signal.SIGTERM)
        offline = recorder.wait_for("worker-offline")
        stage.worker.kill_all()
        stage.new_worker().start()
        online = recorder.wait_for("worker-online")
    streams = {task_id: [view(event) for event in seen[task_id]] for task_id in awaited}
    # The number of the pool's job, and the name of the child, are not the same by nature.
    streams["lost"][-1].pop("exception")
    streams["lost"][-1].pop("traceback")
    # A retried task goes on with a second message, which may be received before the retry is told.
    first_run = {event["type"]: event for event in reversed(streams["retries"])}
    streams["retries"] = [first_run[kind] for kind in ("task-received", "task-started", "task-retried")]
    # A stock worker tells of a task that took too long twice, the second time by the name of billiard's wrapper.
    streams["timed-out"] = list({event["type"]: {**event, "exception": ""} for event in streams["timed-out"]}.values())
    _check_clocks(recorder.events)
    return {"heartbeat": view(heartbeat), "offline": view(offline), "online": view(online), **streams}


def _check_clocks(events: list[dict[str, Any]]) -> None:
    """No two events of one process have the same clock, whoever built them."""
    of_process: dict[int, list[int]] = {}
    for event in events:
        assert type(event["clock"]) is int and event["clock"] > 0, event
        of_process.setdefault(event["pid"], []).append(event["clock"])
    assert all(len(set(clocks)) == len(clocks) for clocks in of_process.values())


@pytest.mark.parametrize("our_kind", ["pyworker-fast", "pyworker-library", "pyworker-parent"])
def test_events_are_those_of_the_stock_worker(our_kind: str) -> None:
    _compare(our_kind, app="tasks")


def test_events_of_an_app_of_our_own_are_those_of_the_stock_worker() -> None:
    _compare("pyworker-own", app="either")


def _compare(kind: str, *, app: str) -> None:
    with pair(kind, app=app, options=("-c", "2", "-E")) as (stock, ours):
        expected, got = _record(stock), _record(ours)
    if kind == "pyworker-own":
        got = {
            key: [_in_celerys_names(event) for event in each] if isinstance(each, list) else each
            for key, each in got.items()
        }
        for record in (expected, got):
            for name in ("heartbeat", "offline", "online"):
                record[name] |= dict.fromkeys(_OF_THE_LIBRARY, "of the library")
    differences = {key: (expected[key], got[key]) for key in expected if expected[key] != got[key]}
    text = "\n".join(f"{key}\n  stock {one}\n  ours  {two}" for key, (one, two) in differences.items())
    if differences:
        pytest.fail(f"{len(differences)} streams differ:\n{text}", pytrace=False)


def _in_celerys_names(event: dict[str, Any]) -> dict[str, Any]:
    """Name exceptions in a traceback by where Celery has them."""
    if not event.get("traceback"):
        return event
    text = event["traceback"].replace("pyworker.exceptions.TimeLimit", "billiard.exceptions.TimeLimit")
    return event | {"traceback": text.replace("pyworker.exceptions", "celery.exceptions")}


def without_returns(types: Iterable[str]) -> list[str]:
    """Leave out that a message was received, went back unstarted because the node is slow, and was received again."""
    told = list(types)
    return [kind for kind, following in zip_longest(told, told[1:]) if not kind == following == "task-received"]


@pytest.mark.parametrize("our_kind", [KINDS["pyworker-fast"], OWN], ids=lambda kind: str(kind.name))
def test_attempts_of_a_task_are_told_one_after_the_other(our_kind: Kind) -> None:
    """The next attempt may be running in another child before the engine has heard of the end of the one before."""
    library = {"TEST_LIBRARY": "pyworker" if our_kind is OWN else "celery"}
    attempt = ["task-received", "task-started"]
    expected = [*attempt, "task-retried", *attempt, "task-retried", *attempt, "task-failed"]
    ids = [f"again-{number}" for number in range(200)]
    with (
        Stage(our_kind, "either", options=("-c", "2", "-E"), environment=library) as stage,
        Recorder(stage.app) as recorder,
    ):
        for task_id in ids:
            stage.tasks.retry_at_once.apply_async(task_id=task_id)

        def told() -> dict[str, list[str]]:
            types = recorder.of_tasks()
            return {task_id: without_returns(event["type"] for event in types.get(task_id, ())) for task_id in ids}

        eventually(lambda: all("task-failed" in types for types in told().values()), deadline_s=_DEADLINE_S)
        found = told()
    assert {task_id: types for task_id, types in found.items() if types != expected} == {}


@pytest.mark.parametrize("our_kind", ["pyworker-fast", "pyworker-own"])
def test_task_events_are_turned_on_and_off_at_run_time(our_kind: str) -> None:
    with pair(our_kind, app="either", options=("-c", "1")) as stages:
        expected, got = (_switch(stage) for stage in stages)
    assert got == expected


def _switch(stage: Stage) -> dict[str, list[str]]:
    """Run a task before, while and after events are on; returns the types that each told."""
    control, node = stage.app.control, [stage.worker.node_name]

    def tell(command: str) -> Any:
        return eventually(lambda: getattr(control, command)(destination=node, reply=True, timeout=5))

    with Recorder(stage.app) as recorder:
        stage.tasks.add.apply_async((1, 2), task_id="before").get(timeout=_DEADLINE_S)
        # The result may be there before the worker has heard of it.
        eventually(lambda: control.inspect(node, timeout=5).active() == {node[0]: []}, deadline_s=_DEADLINE_S)
        replies = [tell("enable_events")[0], tell("enable_events")[0]]
        stage.tasks.add.apply_async((1, 2), task_id="while").get(timeout=_DEADLINE_S)
        recorder.wait_for("task-succeeded", uuid="while")
        replies.append(tell("disable_events")[0])
        stage.tasks.add.apply_async((1, 2), task_id="after").get(timeout=_DEADLINE_S)
        # Told in order: when this heartbeat is here, nothing of the last task is to come.
        beats = len(recorder.of_type("worker-heartbeat"))
        eventually(lambda: len(recorder.of_type("worker-heartbeat")) > beats + 1, deadline_s=_DEADLINE_S)
        types = {task_id: recorder.types(task_id) for task_id in ("before", "while", "after")}
    return {**types, "replies": [next(iter(reply.values()))["ok"] for reply in replies]}


@pytest.mark.parametrize("library", ["celery", "pyworker"])
def test_task_events_are_turned_on_by_the_setting_alone(library: str) -> None:
    settings = json.dumps({"worker_send_task_events": True})
    environment = {"TEST_LIBRARY": library, "TEST_APP_SETTINGS": settings}
    with Stage(OWN, "either", options=("-c", "1"), environment=environment) as stage, Recorder(stage.app) as recorder:
        stage.tasks.add.apply_async((1, 2), task_id="told")
        recorder.wait_for("task-succeeded", uuid="told")
        assert sorted(recorder.types("told")) == ["task-received", "task-started", "task-succeeded"]


@pytest.mark.parametrize("library", ["celery", "pyworker"])
def test_exchanges_have_the_names_and_events_the_serializer_that_are_set(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"event_exchange": "watched", "event_serializer": "yaml", "control_exchange": "steered"}
    monkeypatch.setenv("TEST_APP_SETTINGS", json.dumps(settings))
    monkeypatch.setenv("TEST_LIBRARY", library)
    with Stage(OWN, "either", options=("-c", "1", "-E")) as stage, Recorder(stage.app) as recorder:
        raw = stage.redis.pubsub(ignore_subscribe_messages=True)
        raw.psubscribe("*watched*")
        stage.tasks.add.apply_async((1, 2), task_id="told")
        recorder.wait_for("task-succeeded", uuid="told")
        message = eventually(lambda: raw.get_message(timeout=1), deadline_s=_DEADLINE_S, what="an event")
        raw.close()
        assert json.loads(message["data"])["content-type"] == "application/x-yaml"
        inspect = stage.app.control.inspect(timeout=_DEADLINE_S, limit=1)
        assert inspect.ping() == {stage.worker.node_name: {"ok": "pong"}}
        names = stage.redis.keys("_kombu.binding.*")
        assert {"_kombu.binding.watched", "_kombu.binding.steered.pidbox"} <= set(names)
        assert not {"_kombu.binding.celeryev", "_kombu.binding.celery.pidbox"} & set(names)
