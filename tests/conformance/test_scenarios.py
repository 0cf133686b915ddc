"""The same scenarios on every broker: what a worker owes to its messages, whatever carries them."""

from __future__ import annotations

import os
import secrets
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.waiting import eventually

if TYPE_CHECKING:
    from support.conformance_stage import ConformanceStage


#: kombu's SQLAlchemy transport uses what newer releases of SQLAlchemy warn of.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


def name(kind: str) -> str:
    """A name that no other scenario uses."""
    return f"{kind}-{secrets.token_hex(4)}"


def test_results(stage: ConformanceStage) -> None:
    sent = [stage.call("add", number, number) for number in range(20)]
    late = [stage.call("add_late", number, 1) for number in range(10)]
    assert [stage.get(result) for result in sent] == [2 * number for number in range(20)]
    assert [stage.get(result) for result in late] == [number + 1 for number in range(10)]


def test_delivery_information(stage: ConformanceStage) -> None:
    result = stage.call("delivery")
    found = stage.get(result)
    assert found["id"] == result.id
    assert (found["routing_key"], found["redelivered"]) == ("celery", False)


def test_payloads(stage: ConformanceStage) -> None:
    text = "snowman ☃ 𝄞 \x00" * 5_000
    assert stage.get(stage.call("length", text)) == len(text)
    packed = stage.call("length", text, compression="gzip")
    assert stage.get(packed) == len(text)


def test_retries(stage: ConformanceStage) -> None:
    note = name("retried")
    assert stage.get(stage.call("retried", note)) == 2
    assert [entry["retries"] for entry in stage.notebook.notes(note)] == [0, 1, 2]


def test_requeue(stage: ConformanceStage) -> None:
    note = name("requeued")
    assert stage.get(stage.call("requeued", note)) == "second time"
    entries = stage.notebook.notes(note)
    assert [entry["redelivered"] for entry in entries] == [False, stage.transport.tells_redelivery]


def test_reject(stage: ConformanceStage) -> None:
    note = name("rejected")
    stage.call("rejected", note)
    stage.wait_for_notes(note, 1)
    # What was sent behind it has been run, so it would have come again.
    assert [stage.get(stage.call("add_late", 1, 1)) for _ in range(4)] == [2] * 4
    assert len(stage.notebook.notes(note)) == 1


def test_eta(stage: ConformanceStage) -> None:
    note = name("eta")
    begun = time.time()
    # Some transports are looked at once a second only, and the machine may be busy.
    later = stage.call("noted", note, "later", countdown=7.5)
    sooner = stage.call("noted", note, "sooner", countdown=5.0)
    at_once = stage.call("noted", note, "at once")
    assert [stage.get(result) for result in (later, sooner, at_once)] == ["later", "sooner", "at once"]
    entries = stage.notebook.notes(note)
    assert [entry["label"] for entry in entries] == ["at once", "sooner", "later"]
    assert entries[1]["at"] - begun >= 5.0
    assert entries[2]["at"] - begun >= 7.5


def test_expiry(stage: ConformanceStage) -> None:
    note = name("expired")
    expired = stage.call("noted", note, expires=-1)
    assert stage.get(stage.call("noted", note, "in time", expires=600)) == "in time"
    eventually(lambda: expired.state == "REVOKED", deadline_s=60.0, what="the expired task is revoked")
    assert [entry["label"] for entry in stage.notebook.notes(note)] == ["in time"]


def test_workflow(stage: ConformanceStage) -> None:
    module = stage.module
    chain = module.add.s(1, 2) | module.add.s(3) | module.add.s(4)
    result = chain.apply_async()
    assert stage.get(result) == 10


def test_lost_child(stage: ConformanceStage) -> None:
    note = name("killed")
    assert stage.get(stage.call("killed_once", note)) == "survived"
    first, second = stage.notebook.notes(note)
    assert first["pid"] != second["pid"]


def test_children_inherit_nothing(stage: ConformanceStage) -> None:
    found = stage.get(stage.call("surroundings"))
    parent = stage.worker.pid
    assert found["parent"] == parent
    mine = {os.readlink(path) for path in Path(f"/proc/{parent}/fd").iterdir() if path.exists()}
    assert not mine.intersection(found["sockets"])
    assert found["threads"] == 1


def test_prefetch_and_shutdown(stage: ConformanceStage) -> None:
    queue, note, gate = name("leaving"), name("leaving"), name("gate")
    worker = stage.start_worker("-Q", queue, "-n", f"{queue}@%h", "--prefetch-multiplier", "2")
    for label in range(12):
        stage.call("gated", note, gate, label, queue=queue)
    stage.wait_for_notes(note, 2)
    # Two run and were acknowledged when they started; Celery's count of four is reserved on top.
    eventually(lambda: stage.waiting(queue) == 6, deadline_s=60.0, what="four messages are reserved")
    worker.send(signal.SIGTERM)
    # What has not started is back while the other two still run.
    eventually(lambda: stage.waiting(queue) == 10, deadline_s=60.0, what="the reserved messages are back")
    stage.notebook.open_gate(gate)
    assert worker.wait(deadline_s=60.0) == 0
    successor = stage.start_worker("-Q", queue, "-n", f"{queue}@%h")
    stage.wait_for_notes(note, 12)
    assert successor.stop() == 0
    labels = [entry["label"] for entry in stage.notebook.notes(note)]
    assert sorted(labels) == list(range(12))


def test_cold_shutdown(stage: ConformanceStage) -> None:
    queue, note, gate = name("cold"), name("cold"), name("gate")
    worker = stage.start_worker("-Q", queue, "-n", f"{queue}@%h", "-c", "1")
    stage.call("gated_late", note, gate, queue=queue)
    stage.wait_for_notes(note, 1)
    worker.send(signal.SIGQUIT)
    worker.wait(deadline_s=60.0)
    stage.notebook.open_gate(gate)
    # It was not acknowledged, so it is the next worker's.
    successor = stage.start_worker("-Q", queue, "-n", f"{queue}@%h")
    stage.wait_for_notes(note, 2)
    assert successor.stop() == 0


def test_remote_control(stage: ConformanceStage) -> None:
    control: Any = stage.app.control
    if not stage.transport.has_fanout:
        # As with Celery's worker: nobody listens, and the client says so.
        assert not control.inspect(timeout=1.0).ping()
        return
    node = stage.worker.node_name
    # A client on a polled transport hears an answer when it looks for the next time.
    replies = eventually(
        lambda: control.inspect(destination=[node], timeout=3.0).ping(), deadline_s=60.0, what="an answer to a ping"
    )
    assert replies == {node: {"ok": "pong"}}


def test_added_queue(stage: ConformanceStage) -> None:
    if not stage.transport.has_fanout:
        return
    control, node = stage.app.control, stage.worker.node_name
    queue, note = name("added"), name("added")
    control.add_consumer(queue, destination=[node], reply=True, timeout=3.0)
    assert stage.get(stage.call("noted", note, "on a new queue", queue=queue)) == "on a new queue"


def test_events(stage: ConformanceStage) -> None:
    if not stage.transport.has_fanout:
        return
    # A stock monitor, whosever application the worker's is.
    app, seen = stage.stock_app(), []
    stage.app.control.enable_events()
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": lambda event: seen.append(event["type"])})
        # Heartbeats come meanwhile, so there is always a next round.
        for _ in receiver.consume(timeout=60.0, safety_interval=0.5):
            if "task-succeeded" in seen:
                break
            stage.call("add", 1, 1)
    assert {"task-received", "task-started", "task-succeeded"} <= set(seen)
