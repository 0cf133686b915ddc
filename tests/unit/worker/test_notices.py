"""What becomes of the engine's notices, above all of a delivery whose handling fails."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from pyworker.worker.config import RetryPolicy
from pyworker.worker.connection_log import ConnectionLog
from pyworker.worker.notices import NoticeDispatcher, human_status
from pyworker.worker.protocol import Verdict, WorkerApp

if TYPE_CHECKING:
    from pyworker._native import Engine, Notice


@dataclass
class Application:
    """Answers deliveries as told."""

    answer: Verdict | Exception = Verdict.ACK
    seen: list[str] = field(default_factory=list)

    def on_delivery(self, notice: Notice) -> Verdict:
        self.seen.append(notice.reason)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def on_received(self, notice: Notice) -> None:
        raise RuntimeError(f"no log line for {notice.task_id}")


@dataclass
class ResolvingEngine:
    """Keeps the verdicts."""

    resolved: list[tuple[int, str]] = field(default_factory=list)

    def resolve(self, handle: int, verdict: str) -> None:
        self.resolved.append((handle, verdict))


@dataclass
class Listener:
    """The runner's part."""

    is_stopping: bool = False
    calls: list[str] = field(default_factory=list)

    def on_ready(self) -> None:
        self.calls.append("ready")

    def on_gave_up(self) -> None:
        self.calls.append("gave up")

    def on_crippled(self) -> None:
        self.calls.append("crippled")

    def on_stopped(self, text: str) -> None:
        self.calls.append(f"stopped: {text}")


@dataclass
class World:
    """A dispatcher and everything around it."""

    app: Application = field(default_factory=Application)
    engine: ResolvingEngine = field(default_factory=ResolvingEngine)
    listener: Listener = field(default_factory=Listener)

    def tell(self, kind: str, **fields: Any) -> None:
        values = {"handle": 0, "reason": "", "task_id": "id", "task_name": "t", "redelivered": False, "text": ""}
        connection = ConnectionLog("redis://", RetryPolicy())
        app, engine = cast("WorkerApp", self.app), cast("Engine", self.engine)
        dispatcher = NoticeDispatcher(app, engine, connection, self.listener)
        dispatcher.dispatch(cast("Notice", SimpleNamespace(kind=kind, **({"requeue": False} | values | fields))))


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("verdict", [verdict for verdict in Verdict if verdict is not Verdict.HOLD])
def test_verdict_of_the_application_reaches_the_engine(world: World, verdict: Verdict) -> None:
    world.app.answer = verdict
    world.tell("delivery", handle=5, reason="unknown_task")
    assert world.engine.resolved == [(5, verdict.value)]


def test_delivery_that_the_application_holds_waits_for_its_answer(world: World) -> None:
    world.app.answer = Verdict.HOLD
    world.tell("delivery", handle=5, reason="dispatch")
    assert world.app.seen == ["dispatch"]
    assert world.engine.resolved == []


def test_delivery_for_information_gets_no_answer(world: World) -> None:
    world.tell("delivery", handle=0, reason="soft_timeout")
    assert world.app.seen == ["soft_timeout"]
    assert world.engine.resolved == []


@pytest.mark.parametrize(("redelivered", "verdict"), [(False, "requeue"), (True, "reject")])
def test_delivery_whose_handling_fails_is_requeued_once(
    world: World, caplog: pytest.LogCaptureFixture, redelivered: bool, verdict: str
) -> None:
    world.app.answer = ZeroDivisionError("a hook of the application")
    world.tell("delivery", handle=9, reason="parent_lane", redelivered=redelivered)
    assert world.engine.resolved == [(9, verdict)]
    assert "a hook of the application" in caplog.text


def test_failing_receipt_line_is_logged_and_stays_here(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.tell("received")
    assert "no log line for id" in caplog.text


@pytest.mark.parametrize(
    ("status", "is_stopping", "line"),
    [
        (0, False, None),
        (155, False, None),
        (1, False, "Process 'ForkPoolWorker-3' pid:77 exited with 'exitcode 1'"),
        (-9, False, "Process 'ForkPoolWorker-3' pid:77 exited with 'signal 9 (SIGKILL)'"),
        (-9, True, None),
    ],
)
def test_unexpected_end_of_a_child_is_logged_as_upstream(
    world: World, caplog: pytest.LogCaptureFixture, status: int, is_stopping: bool, line: str | None
) -> None:
    world.listener.is_stopping = is_stopping
    world.tell("child_exited", index=2, pid=77, status=status)
    assert [record.getMessage() for record in caplog.records] == ([line] if line else [])


def test_log_lines_keep_their_level(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    world.tell("log", status=30, text="100 % of it")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("WARNING", "100 % of it")]


@pytest.mark.parametrize(("level", "calls"), [(logging.ERROR, []), (logging.CRITICAL, ["crippled"])])
def test_critical_line_means_that_the_engine_is_crippled(world: World, level: int, calls: list[str]) -> None:
    world.tell("log", status=level, text="Cannot replace the fork server")
    assert world.listener.calls == calls


def test_end_of_all_attempts_is_told(world: World) -> None:
    world.tell("disconnected", seconds=-1.0, text="refused")
    assert world.listener.calls == ["gave up"]


def test_unknown_notice_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.tell("earthquake")
    assert "earthquake" in caplog.text


@pytest.mark.parametrize("status", [0, 1, 255, -9, -15, -11, -64])
def test_status_reads_as_in_billiard(status: int) -> None:
    common = pytest.importorskip("billiard.common")
    assert human_status(status) == common.human_status(status)
