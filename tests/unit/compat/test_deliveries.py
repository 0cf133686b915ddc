"""What happens to deliveries that end in the parent: states, signals, log lines and verdicts are Celery's."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from celery.exceptions import Reject, TaskRevokedError, TimeLimitExceeded, WorkerLostError
from celery.worker import state
from kombu.serialization import dumps, loads

from pyworker.worker.protocol import Verdict
from support.notices import Shown, job

pytestmark = pytest.mark.filterwarnings("ignore::celery.platforms.SecurityWarning")
NAME = "unit.work"


def nothing() -> None:
    """The body of every task here; it never runs."""


@pytest.fixture
def work(app: Any) -> Any:
    return app.task(name=NAME)(nothing)


@pytest.fixture
def late_work(app: Any) -> Any:
    return app.task(name=NAME, acks_late=True)(nothing)


def result_of(app: Any, task_id: str) -> tuple[str, Any]:
    meta = app.backend.get_task_meta(task_id)
    return meta["status"], meta["result"]


def test_unknown_task_fails_and_is_rejected(app: Any, make_node: Any, recorded: Any, caplog: Any) -> None:
    node = make_node()
    with recorded("task_unknown") as sent:
        assert node.deliveries.resolve(job("unknown_task", "unit.nope", "t1")) is Verdict.REJECT
    assert sent[0][1] is node.worker.consumer
    assert sent[0][2]["name"] == "unit.nope"
    assert sent[0][2]["id"] == "t1"
    assert result_of(app, "t1")[0] == "FAILURE"
    assert "Received unregistered task of type 'unit.nope'." in caplog.text


def test_message_without_task_is_rejected_as_unknown(make_node: Any, recorded: Any, caplog: Any) -> None:
    node = make_node()
    notice = Shown(
        reason="malformed", headers=b'{"x": 1}', body=b"[1]", content_type="application/json", content_encoding="utf-8"
    )
    with recorded("task_rejected") as sent:
        assert node.deliveries.resolve(notice) is Verdict.REJECT
    assert sent[0][2]["exc"] is None
    assert "Received and deleted unknown message.  Wrong destination?!?" in caplog.text


def test_raw_bytes_are_rejected_as_unknown(make_node: Any, recorded: Any, caplog: Any) -> None:
    node = make_node()
    with recorded("task_rejected") as sent:
        assert node.deliveries.resolve(Shown(reason="malformed", raw=b'{"body": trunc')) is Verdict.REJECT
    assert len(sent) == 1
    assert "Wrong destination" in caplog.text


@pytest.mark.parametrize("headers", [b"[1, 2]", b'"text"', b"3"])
def test_headers_of_a_wrong_type_are_rejected(make_node: Any, headers: bytes) -> None:
    node = make_node()
    notice = Shown(
        reason="malformed", headers=headers, body=b"[]", content_type="application/json", content_encoding="utf-8"
    )
    assert node.deliveries.resolve(notice) is Verdict.REJECT


def test_damaged_body_is_acknowledged_with_a_critical_line(work: Any, make_node: Any, caplog: Any) -> None:
    node = make_node()
    assert node.deliveries.resolve(job("undecodable", NAME, "t1", body=b"{bad")) is Verdict.ACK
    assert "Can't decode message body: DecodeError" in caplog.text
    assert any(record.levelno == logging.CRITICAL for record in caplog.records)


def test_refused_content_type_is_rejected(work: Any, make_node: Any, recorded: Any, caplog: Any) -> None:
    node = make_node()
    with recorded("task_rejected") as sent:
        verdict = node.deliveries.resolve(job("undecodable", NAME, "t1", serializer="pickle"))
    assert verdict is Verdict.REJECT
    assert type(sent[0][2]["exc"]).__name__ == "ContentDisallowed"
    assert "Received invalid task message: Refusing to deserialize" in caplog.text


def test_compression_that_cannot_be_undone_is_a_decode_error(work: Any, make_node: Any, caplog: Any) -> None:
    node = make_node()
    notice = job("undecodable", NAME, "t1", headers={"compression": "application/x-gzip"}, body=b"no zlib")
    assert node.deliveries.resolve(notice) is Verdict.ACK
    assert "Can't decode message body" in caplog.text


def test_body_only_the_child_cannot_read_is_rejected_not_repeated(work: Any, make_node: Any, caplog: Any) -> None:
    node = make_node()
    assert node.deliveries.resolve(job("undecodable", NAME, "t1", text="child says no")) is Verdict.REJECT
    assert "child says no" in caplog.text


def test_body_of_a_wrong_shape_is_rejected_and_the_worker_lives(work: Any, make_node: Any, caplog: Any) -> None:
    node = make_node()
    assert node.deliveries.resolve(job("undecodable", NAME, "t1", body=b"[1]")) is Verdict.REJECT
    assert "Received invalid task message" in caplog.text


def test_bad_eta_is_rejected(work: Any, make_node: Any, caplog: Any) -> None:
    node = make_node()
    assert node.deliveries.resolve(job("invalid_task", NAME, "t1", headers={"eta": "tomorrow"})) is Verdict.REJECT
    assert "invalid ETA value" in caplog.text


def test_protocol_1_is_rewritten_and_dispatched(work: Any, make_node: Any) -> None:
    node = make_node()
    eta = "2031-01-02T03:04:05"
    body = {"task": NAME, "id": "p1", "args": [1, 2], "kwargs": {"a": 3}, "retries": 1, "eta": eta}
    content_type, encoding, data = dumps(body, serializer="json")
    notice = Shown(
        reason="protocol1",
        headers=b"{}",
        properties=b"{}",
        body=data.encode(),
        content_type=content_type,
        content_encoding=encoding,
    )
    assert node.deliveries.resolve(notice) is Verdict.DISPATCH
    handle, headers, _properties, new_body, new_type, new_encoding, task_id, name = node.engine.replaced[0]
    assert (handle, task_id, name) == (7, "p1", NAME)
    found = json.loads(headers)
    assert (found["task"], found["id"], found["retries"]) == (NAME, "p1", 1)
    assert found["eta"] == "2031-01-02T03:04:05+00:00"
    args, kwargs, embed = loads(new_body, new_type, new_encoding)
    assert (args, kwargs, embed["chord"]) == ([1, 2], {"a": 3}, None)
    assert not state.requests


def test_parent_lane_builds_the_tasks_own_request(app: Any, make_node: Any, recorded: Any, caplog: Any) -> None:
    from celery.worker.request import Request

    class OwnRequest(Request):  # type: ignore[misc]
        pass

    app.task(name=NAME, Request=OwnRequest)(nothing)
    node = make_node()
    caplog.set_level(logging.INFO)
    with recorded("task_received") as sent:
        assert node.deliveries.resolve(job("parent_lane", NAME, "t1")) is Verdict.DISPATCH
    assert isinstance(sent[0][2]["request"], OwnRequest)
    assert sent[0][1] is node.worker.consumer
    assert not state.requests
    assert not list(state.reserved_requests)


def test_parent_lane_with_an_eta_is_dispatched_at_once(work: Any, make_node: Any) -> None:
    node = make_node()
    eta = (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat()
    assert node.deliveries.resolve(job("parent_lane", NAME, "t1", headers={"eta": eta})) is Verdict.DISPATCH
    assert not state.requests


def test_expired_task_is_revoked(app: Any, work: Any, make_node: Any, recorded: Any) -> None:
    node = make_node()
    expires = (datetime.now(timezone.utc) - timedelta(seconds=5)).isoformat()
    with recorded("task_revoked") as sent:
        assert node.deliveries.resolve(job("expired", NAME, "t1", headers={"expires": expires})) is Verdict.ACK
    assert sent[0][2]["expired"] is True
    status, result = result_of(app, "t1")
    assert status == "REVOKED"
    assert isinstance(result, TaskRevokedError)
    assert str(result) == "expired"


def test_revoked_task_is_discarded(app: Any, work: Any, make_node: Any, recorded: Any, caplog: Any) -> None:
    node = make_node()
    caplog.set_level(logging.INFO)
    state.revoked.add("t1")
    with recorded("task_revoked") as sent:
        assert node.deliveries.resolve(job("revoked", NAME, "t1")) is Verdict.ACK
    assert (sent[0][2]["terminated"], sent[0][2]["signum"], sent[0][2]["expired"]) == (False, None, False)
    assert f"Discarding revoked task: {NAME}[t1]" in caplog.text


def test_task_whose_revocation_was_forgotten_runs(work: Any, make_node: Any) -> None:
    node = make_node()
    assert node.deliveries.resolve(job("revoked", NAME, "t1")) is Verdict.DISPATCH
    # Shown again, it is the engine's word that counts: nothing may go round in circles.
    assert node.deliveries.resolve(job("revoked", NAME, "t1")) is Verdict.ACK


def test_lost_child_fails_the_task(app: Any, work: Any, make_node: Any, recorded: Any, caplog: Any) -> None:
    node = make_node()
    with recorded("task_failure") as sent:
        assert node.deliveries.resolve(job("lost", NAME, "t1", status=-9)) is Verdict.ACK
    status, result = result_of(app, "t1")
    assert (status, type(result)) == ("FAILURE", WorkerLostError)
    assert str(result) == "Worker exited prematurely: signal 9 (SIGKILL) Job: 3."
    assert sent[0][2]["task_id"] == "t1"
    assert "Task handler raised error: WorkerLostError" in caplog.text


def test_lost_child_of_a_late_task_acknowledges_its_failure(app: Any, late_work: Any, make_node: Any) -> None:
    assert make_node().deliveries.resolve(job("lost", NAME, "t1", status=3)) is Verdict.ACK
    assert "exitcode 3" in str(result_of(app, "t1")[1])


def test_lost_child_requeues_where_the_task_says_so(app: Any, make_node: Any) -> None:
    app.task(name=NAME, acks_late=True, reject_on_worker_lost=True)(nothing)
    assert make_node().deliveries.resolve(job("lost", NAME, "t1", status=-9)) is Verdict.REQUEUE
    assert result_of(app, "t1")[0] == "PENDING"


def test_task_that_succeeded_before_its_child_died_stays_a_success(app: Any, work: Any, make_node: Any) -> None:
    node = make_node()
    app.backend.store_result("t1", 42, "SUCCESS")
    assert node.deliveries.resolve(job("lost", NAME, "t1", status=-9)) is Verdict.ACK
    assert result_of(app, "t1") == ("SUCCESS", 42)


def test_soft_limit_warns_with_the_configured_number(app: Any, make_node: Any, caplog: Any) -> None:
    app.task(name=NAME, soft_time_limit=10)(nothing)
    make_node().deliveries.resolve(job("soft_timeout", NAME, "t1", seconds=10.0, handle=0))
    assert f"Soft time limit (10s) exceeded for {NAME}[t1]" in caplog.text


def test_hard_limit_fails_the_task(app: Any, make_node: Any, recorded: Any, caplog: Any) -> None:
    app.task(name=NAME, time_limit=1)(nothing)
    with recorded("task_failure") as sent:
        assert make_node().deliveries.resolve(job("hard_timeout", NAME, "t1", seconds=1.0)) is Verdict.ACK
    status, result = result_of(app, "t1")
    assert (status, type(result)) == ("FAILURE", TimeLimitExceeded)
    assert sent
    assert f"Hard time limit (1s) exceeded for {NAME}[t1]" in caplog.text


def test_hard_limit_of_a_late_task_follows_acks_on_timeout(app: Any, make_node: Any) -> None:
    app.task(name=NAME, acks_late=True, acks_on_failure_or_timeout=False, time_limit=1)(nothing)
    verdict = make_node().deliveries.resolve(job("hard_timeout", NAME, "t1", seconds=1.0))
    assert verdict in {Verdict.REQUEUE, Verdict.REJECT}


def test_terminated_task_is_revoked_with_its_signal(app: Any, work: Any, make_node: Any, recorded: Any) -> None:
    node = make_node()
    with recorded("task_revoked") as sent:
        assert node.deliveries.resolve(job("terminated", NAME, "t1", status=15)) is Verdict.ACK
    assert sent[0][2]["terminated"] is True
    assert repr(sent[0][2]["signum"]) == "<Signals.SIGTERM: 15>"
    assert str(result_of(app, "t1")[1]) == "terminated"


def test_cold_shutdown_requeues_late_tasks_silently(app: Any, late_work: Any, make_node: Any, recorded: Any) -> None:
    node = make_node()
    state.should_terminate = 1
    with recorded("task_failure", "task_revoked", "task_retry"):
        assert node.deliveries.resolve(job("lost", NAME, "t1", status=-15)) is Verdict.REQUEUE
    assert result_of(app, "t1")[0] in {"PENDING", "RETRY"}


def test_cold_shutdown_marks_early_acknowledged_tasks_as_retried(app: Any, work: Any, make_node: Any) -> None:
    node = make_node()
    state.should_terminate = 1
    assert node.deliveries.resolve(job("lost", NAME, "t1", status=-15)) is Verdict.ACK
    assert result_of(app, "t1")[0] == "RETRY"


@pytest.mark.parametrize(("requeue", "verdict"), [(True, Verdict.REQUEUE), (False, Verdict.REJECT)])
def test_rejecting_late_task_settles_as_it_asked(
    app: Any, late_work: Any, make_node: Any, requeue: bool, verdict: Verdict
) -> None:
    notice = job("rejected", NAME, "t1", requeue=requeue, text=repr(Reject("not now", requeue=requeue)))
    assert make_node().deliveries.resolve(notice) is verdict
    if requeue:
        assert result_of(app, "t1")[0] == "PENDING"
    elif app.backend.get_task_meta("t1")["status"] == "FAILURE":
        # Celery 5.7 records it, older ones leave it pending.
        assert result_of(app, "t1")[1].reason == "not now"


@pytest.mark.parametrize("wants_it_back", [True, False])
def test_message_delivered_too_often_fails_and_is_rejected(
    app: Any, make_node: Any, recorded: Any, wants_it_back: bool
) -> None:
    app.task(name=NAME, acks_late=True, reject_on_worker_lost=wants_it_back)(nothing)
    notice = job("too_many_deliveries", NAME, "t1", text="20 deliveries")
    with recorded("task_failure") as sent:
        assert make_node().deliveries.resolve(notice) is Verdict.REJECT
    status, result = result_of(app, "t1")
    assert (status, type(result), str(result)) == ("FAILURE", WorkerLostError, "20 deliveries")
    assert len(sent) == 1


def test_errbacks_of_a_lost_task_are_called(app: Any, work: Any, make_node: Any) -> None:
    called: list[Any] = []

    @app.task(name="unit.errback")  # type: ignore[untyped-decorator]
    def errback(request: Any, exc: Any, traceback: Any) -> None:
        called.append(request.id)

    signature = {
        "task": "unit.errback",
        "args": [],
        "kwargs": {},
        "options": {},
        "subtask_type": None,
        "immutable": False,
    }
    node = make_node()
    node.deliveries.resolve(job("lost", NAME, "t1", status=-9, embed={"errbacks": [signature], "chord": None}))
    assert called == ["t1"]


def test_failing_receiver_leaves_the_worker_alive(work: Any, make_node: Any, caplog: Any, monkeypatch: Any) -> None:
    node = make_node()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("store is gone")

    monkeypatch.setattr(node.app.backend, "mark_as_failure", fail)
    assert node.deliveries.resolve(job("lost", NAME, "t1", status=-9)) is Verdict.ACK
    assert "store is gone" in caplog.text
