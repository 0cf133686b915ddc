"""What becomes of messages that cannot be decoded and of exceptions that leave a tracer."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from celery.exceptions import Reject, SoftTimeLimitExceeded
from kombu.exceptions import ContentDisallowed
from kombu.serialization import registry

from pyworker import compression
from pyworker._native import NativeError
from pyworker.worker.bodies import BodyDecoder
from pyworker.worker.protocol import Outcome
from support.lane_stage import MODES, TASK_ID, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery import Celery


class StopsTheChild(BaseException):
    """What a task raises that is no Exception."""


class _SlowDecoder:
    """The soft time limit is over while it works for the first time."""

    __module__ = "kombu.slow"
    calls = 0

    def __call__(self, body: bytes) -> Any:
        self.calls += 1
        if self.calls == 1:
            raise SoftTimeLimitExceeded
        return json.loads(body)


def define(app: Celery, seen: list[Any]) -> None:
    @app.task(shared=False, name="ends")
    def ends(how: str) -> None:
        seen.append(("body", how))
        raise {"exit": SystemExit(3), "interrupt": KeyboardInterrupt(), "base": StopsTheChild()}[how]

    @app.task(shared=False, name="look", bind=True)
    def look(self: Any) -> None:
        seen.append(("look", self.request.delivery_info["redelivered"], self.request.headers))

    @app.task(shared=False, name="ok")
    def ok() -> int:
        return 1


@pytest.fixture(params=["library", "fast"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    stage = Stage(request.param, define)
    with stage.open():
        yield stage


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{"),
        ("application/json", b"\xff"),
        ("application/json", b""),
        ("application/json", b"[[], {}]"),
        ("application/json", b'[[], {}, {"a": {"__type__": "unknown", "__value__": 1}}]'),
        ("application/json", b'{"args": [], "kwargs": {}, "id": "x"}'),
        ("application/x-python-serialize", b"\x80\x04N."),
        ("application/unheard-of", b"x"),
        ("", b"x"),
    ],
)
def test_undecodable_bodies_are_left_to_the_parent(stage: Stage, content_type: str, body: bytes) -> None:
    outcome, text = stage.run("ok", raw_body=(content_type, "utf-8", body))
    assert outcome == Outcome.UNDECODABLE
    assert text
    assert stage.timeline == []


@pytest.mark.parametrize("method", ["application/x-gzip", "unheard-of"])
def test_damaged_compression_is_left_to_the_parent(stage: Stage, method: str) -> None:
    outcome, _ = stage.run("ok", headers={"compression": method})
    assert outcome == Outcome.UNDECODABLE


def test_decompression_is_bounded(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "MAX_BYTES", 1000)
    with pytest.raises(NativeError) as raised:
        BodyDecoder(stage.app.conf.accept_content)(
            zlib.compress(b" " * 2000), {"compression": "gzip"}, "application/json", "utf-8"
        )
    assert raised.value.kind == "too_large"


def test_refused_content_is_kombus_error(stage: Stage) -> None:
    with pytest.raises(ContentDisallowed):
        BodyDecoder(stage.app.conf.accept_content)(b"x", {}, "application/x-yaml", "utf-8")


@pytest.mark.parametrize("headers", [b"[]", b"{", b"{}", b'{"id": 5}'])
def test_headers_of_wrong_shape_are_left_to_the_parent(stage: Stage, headers: bytes) -> None:
    stage.link.begin(7)
    job = (7, stage.names.index("ok"), headers, b"{}", b'[[], {}, "no mapping"]', "application/json", "utf-8", 0)
    stage.tracer.run(job, stage.link)
    assert stage.link.ended is not None
    assert stage.link.ended[1] == Outcome.UNDECODABLE


@pytest.mark.parametrize(("how", "error"), [("exit", SystemExit), ("interrupt", KeyboardInterrupt)])
def test_exit_of_a_task_ends_the_child_with_its_job_unfinished(
    stage: Stage, how: str, error: type[BaseException]
) -> None:
    with pytest.raises(error):
        stage.run("ends", (how,))
    assert stage.link.ended is None
    assert [entry[1] for entry in stage.timeline if entry[0] == "signal"] == ["task_prerun", "task_postrun"]
    # The stacks are as they were: the next job would run.
    assert stage.app.tasks["ends"].request_stack.top is None


def test_other_base_exceptions_fail_the_task(stage: Stage) -> None:
    outcome, text = stage.run("ends", ("base",))
    assert (outcome, text) == (Outcome.INTERNAL_ERROR, "StopsTheChild()")
    stored = [entry[2]["status"] for entry in stage.timeline if entry[0] == "store"]
    assert stored == ["FAILURE"]


# Before Celery 5.6 its tracer takes the first one for an internal error, and says so by a warning.
@pytest.mark.filterwarnings("ignore:Exception raised outside body:RuntimeWarning")
def test_reject_from_outside_the_body_rejects(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def reject(*_: Any) -> None:
        raise Reject("later", requeue=True)

    monkeypatch.setattr(stage.link, "store", reject)
    assert stage.run("ok")[0] == Outcome.REJECTED_REQUEUE


def test_redelivered_jobs_look_as_kombu_makes_them(stage: Stage) -> None:
    stage.link.begin(7)
    headers = json.dumps({"id": TASK_ID, "task": "look", "lang": "py"}).encode()
    job = (7, stage.names.index("look"), headers, b"{}", b"[[], {}, {}]", "application/json", "utf-8", 1)
    stage.tracer.run(job, stage.link)
    assert ("look", True, {"redelivered": True}) in stage.timeline


@pytest.mark.parametrize("mode", MODES[1:])
@pytest.mark.parametrize(("body", "outcome"), [(b"[[], {}, {}]", Outcome.INTERNAL_ERROR), (b"[", Outcome.UNDECODABLE)])
def test_time_limit_while_decoding_fails_the_task_unless_its_message_is_damaged(
    mode: str, monkeypatch: pytest.MonkeyPatch, body: bytes, outcome: Outcome
) -> None:
    decode = _SlowDecoder()
    monkeypatch.setitem(registry._decoders, "application/x-python-serialize", decode)
    stage = Stage(mode, define, accept_content=["pickle"])
    with stage.open():
        assert stage.run("ok", raw_body=("application/x-python-serialize", "binary", body))[0] == outcome
    assert decode.calls == 2
    stored = [entry[2]["result"]["exc_type"] for entry in stage.timeline if entry[0] == "store"]
    assert stored == (["SoftTimeLimitExceeded"] if outcome == Outcome.INTERNAL_ERROR else [])
