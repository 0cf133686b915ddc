"""Task and worker events: the same workload on a stock worker and on ours, the streams compared."""

from __future__ import annotations

import signal
import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from support.pair import pair, plain
from support.waiting import eventually

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from support.stage import Stage

pytestmark = [pytest.mark.control]

#: Fields whose values differ by nature; that they are there, and their types, is compared.
_UNSTABLE = (
    "timestamp",
    "clock",
    "pid",
    "runtime",
    "local_received",
    "uuid",
    "root_id",
    "active",
    "processed",
    "loadavg",
)


class Recorder:
    """Receives the events of a stage's node, as Flower and ``celery events`` do."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.events: list[dict[str, Any]] = []
        self._is_open = threading.Event()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="event recorder")

    def _run(self) -> None:
        with self._stage.app.connection_for_read() as connection:
            receiver = self._stage.app.events.Receiver(connection, handlers={"*": self.events.append})
            with receiver.consumer_context() as (drained, _channel, _consumers):
                self._is_open.set()
                while not self._is_stopping:
                    try:
                        drained.drain_events(timeout=0.5)
                    except TimeoutError:
                        continue

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._is_open.wait(10)
        # kombu subscribes with its first read: a heartbeat shows that it did.
        eventually(lambda: self.of_type("worker-heartbeat"), deadline_s=20)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_stopping = True
        self._thread.join(10)

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of a type so far."""
        return [event for event in list(self.events) if event["type"] == kind]

    def of_tasks(self) -> dict[str, list[dict[str, Any]]]:
        """Return each task's events in the order of their clocks."""
        tasks: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for event in list(self.events):
            if "uuid" in event:
                tasks[event["uuid"]].append(event)
        return {task_id: sorted(events, key=lambda event: event["clock"]) for task_id, events in tasks.items()}


def view(event: dict[str, Any]) -> dict[str, Any]:
    """Return what two workers' events of the same thing share."""
    seen = {key: type(value).__name__ if key in _UNSTABLE else plain(value) for key, value in event.items()}
    if seen.get("traceback"):
        # The frames of the tracer differ; the exception's own line counts.
        seen["traceback"] = seen["traceback"].strip().splitlines()[-1]
    return seen


def _workload(stage: Stage) -> dict[str, str]:
    """Run tasks of every fate; returns the last event that each is waited for with."""
    tasks = stage.tasks
    eta = "2030-01-01T00:00:00+00:00"
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
    eventually(lambda: "flagged as revoked" in stage.worker.log, deadline_s=20)
    tasks.add.apply_async((1, 2), task_id="revoked")
    return {
        "succeeds": "task-succeeded", "fails": "task-failed", "retries": "task-retried", "ignored": "task-started",
        "rejected": "task-rejected", "expired": "task-revoked", "scheduled": "task-received", "long": "task-succeeded",
        "lost": "task-failed", "revoked": "task-revoked",
    }  # fmt: skip


def _record(stage: Stage) -> dict[str, Any]:
    with Recorder(stage) as recorder:
        awaited = _workload(stage)

        def all_there() -> bool:
            seen = recorder.of_tasks()
            missing = {
                task_id: kind
                for task_id, kind in awaited.items()
                if kind not in [event["type"] for event in seen.get(task_id, [])]
            }
            assert not missing, f"not seen yet: {missing}"
            return True

        eventually(all_there, deadline_s=30)
        # A receiver asks for heartbeats when it starts; those say less.
        beats = eventually(lambda: [beat for beat in recorder.of_type("worker-heartbeat") if "active" in beat])
        heartbeat = beats[-1]
        seen = recorder.of_tasks()
        # Not waited for: a stock worker that lost a child does not always end.
        stage.worker.send(signal.SIGTERM)
        offline = eventually(lambda: recorder.of_type("worker-offline"), deadline_s=20)[0]
    streams = {task_id: [view(event) for event in seen[task_id]] for task_id in awaited}
    # The number of the pool's job, and the name of the child, are not the same by nature.
    streams["lost"][-1].pop("exception")
    streams["lost"][-1].pop("traceback")
    # A retried task goes on with a second message, which may be received before the retry is told.
    first_run = {event["type"]: event for event in reversed(streams["retries"])}
    streams["retries"] = [first_run[kind] for kind in ("task-received", "task-started", "task-retried")]
    return {"heartbeat": view(heartbeat), "offline": view(offline), **streams}


@pytest.mark.parametrize("lane_kind", ["pyworker-fast", "pyworker-library", "pyworker-parent"])
def test_events_are_those_of_the_stock_worker(lane_kind: str) -> None:
    with pair(lane_kind, options=("-c", "2", "-E")) as (stock, ours):
        expected, got = _record(stock), _record(ours)
    differences = {key: (expected[key], got[key]) for key in expected if expected[key] != got[key]}
    text = "\n".join(f"{key}\n  stock {one}\n  ours  {two}" for key, (one, two) in differences.items())
    if differences:
        pytest.fail(f"{len(differences)} streams differ:\n{text}", pytrace=False)
