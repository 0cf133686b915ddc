"""Broken messages: a clear error as Celery classifies it, the worker stays up, nothing else is lost."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from support.envelopes import capture, changed, put, with_body
from support.processes import resident_kib
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.stage import Stage

WORKER_OPTIONS = ("-c", "2")

pytestmark = pytest.mark.lanes("fast", "library", "parent")


def send_between_good_ones(stage: Stage, bad: Any, error: str) -> None:
    """Put a bad message between good tasks; the good ones run, ``error`` is logged and nothing stays behind."""
    position = stage.worker.mark()
    before = [stage.tasks.add.delay(number, 1) for number in range(5)]
    put(stage, bad)
    after = [stage.tasks.add.delay(number, 2) for number in range(5)]
    assert [result.get(timeout=15) for result in before] == [number + 1 for number in range(5)]
    assert [result.get(timeout=15) for result in after] == [number + 2 for number in range(5)]
    stage.worker.wait_for_line(error, after=position)
    stage.wait_until_drained()
    assert stage.worker.is_running
    assert not any("Unrecoverable" in line for line in stage.worker.lines_after(position))


COMPLAINT = r": (WARNING|ERROR|CRITICAL)/MainProcess\] "

# Celery's own worker ends at bytes that are no envelope, so these have no control.
RAW_BYTES: dict[str, Callable[[str], Any]] = {
    "empty": lambda message: b"",
    "one brace": lambda message: b"{",
    "truncated": lambda message: message[: len(message) // 2],
    "truncated at the last byte": lambda message: message[:-1],
    "random bytes": lambda message: random.Random(7).randbytes(300),
    "not UTF-8": lambda message: b'{"body": "\xff\xfe"}',
    "a number": lambda message: b"17",
    "a list": lambda message: b"[1, 2, 3]",
    "null": lambda message: b"null",
    "an empty object": lambda message: b"{}",
    "deeply nested": lambda message: b"[" * 100_000,
    "no properties": lambda message: json.dumps({k: v for k, v in json.loads(message).items() if k != "properties"}),
    "properties is a list": lambda message: json.dumps({**json.loads(message), "properties": [1]}),
    "body is a number": lambda message: json.dumps({**json.loads(message), "body": 5}),
}


@pytest.mark.parametrize("name", RAW_BYTES)
def test_bytes_that_are_no_message_are_put_aside(stage: Stage, name: str) -> None:
    message = json.dumps(capture(stage, stage.tasks.add.s(1, 1)))
    send_between_good_ones(stage, RAW_BYTES[name](message), COMPLAINT)


@pytest.mark.parametrize("seed", range(3))
def test_many_random_messages_hinder_nobody(stage: Stage, seed: int) -> None:
    source = random.Random(seed)
    message = json.dumps(capture(stage, stage.tasks.add.s(1, 1))).encode()
    results = []
    for number in range(60):
        damaged = bytearray(message)
        for _ in range(source.randrange(1, 8)):
            damaged[source.randrange(len(damaged))] = source.randrange(256)
        put(stage, bytes(damaged[: source.randrange(1, len(damaged) + 1)]))
        results.append(stage.tasks.add.delay(number, seed))
    assert [result.get(timeout=60) for result in results] == [number + seed for number in range(60)]
    stage.wait_until_drained()
    assert stage.worker.is_running


def test_wrong_base64_is_an_undecodable_body(stage: Stage) -> None:
    envelope = capture(stage, stage.tasks.add.s(1, 1))
    send_between_good_ones(stage, {**envelope, "body": "!!! this is no base64 !!!"}, COMPLAINT)


@pytest.mark.control
def test_body_that_is_no_json_is_an_undecodable_body(stage: Stage) -> None:
    envelope = with_body(capture(stage, stage.tasks.add.s(1, 1)), b"[[1, 2")
    send_between_good_ones(stage, envelope, "Can't decode message body|DecodeError|JSONDecodeError")


@pytest.mark.parametrize("body", [b"{}", b"[]", b"[1, 2, 3, 4]", b"7", b"[[1, 1], [], {}]", b'["x", {}, {}]'])
def test_body_of_another_shape_fails_clearly(stage: Stage, body: bytes) -> None:
    envelope = with_body(capture(stage, stage.tasks.add.s(1, 1)), body)
    send_between_good_ones(stage, envelope, r": (WARNING|ERROR|CRITICAL)/")


@pytest.mark.control
def test_unknown_content_type_is_refused(stage: Stage) -> None:
    envelope = capture(stage, stage.tasks.add.s(1, 1))
    send_between_good_ones(
        stage,
        {**envelope, "content-type": "application/x-nobody-knows"},
        r"(Refusing to deserialize|ContentDisallowed)",
    )


@pytest.mark.control
def test_content_type_that_is_not_accepted_is_refused(stage: Stage) -> None:
    envelope = capture(stage, stage.tasks.add.s(1, 1), serializer="pickle")
    assert envelope["content-type"] == "application/x-python-serialize"
    send_between_good_ones(
        stage,
        envelope,
        r"Refusing to deserialize (untrusted|disallowed) content of type pickle \(application/x-python-serialize\)",
    )


@pytest.mark.control
def test_unknown_task_is_reported_with_its_name(stage: Stage) -> None:
    position = stage.worker.mark()
    before = stage.tasks.add.delay(1, 1)
    unknown = stage.app.send_task("tasks.nobody_wrote_it", (1,), {"two": 3})
    after = stage.tasks.add.delay(2, 2)
    assert (before.get(timeout=20), after.get(timeout=20)) == (2, 4)
    stage.worker.wait_for_line(
        r"ERROR/MainProcess\] Received unregistered task of type 'tasks\.nobody_wrote_it'", after=position
    )
    error = unknown.get(timeout=20, propagate=False)
    assert type(error).__name__ == "NotRegistered"
    assert unknown.state == "FAILURE"
    stage.wait_until_drained()


@pytest.mark.control
@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((1, 2, 3, 4), {}), ((1,), {"nobody": 1})])
def test_arguments_that_do_not_fit_fail_the_task(stage: Stage, args: Any, kwargs: Any) -> None:
    result = stage.app.send_task("tasks.add", args, kwargs)
    error = result.get(timeout=20, propagate=False)
    assert type(error) is TypeError
    assert "add() " in str(error)
    assert stage.tasks.add.delay(1, 1).get(timeout=20) == 2


def headers_with(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(envelope: dict[str, Any]) -> None:
        envelope["headers"].update(changes)

    return change


WRONG_HEADERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "id is a number": headers_with(id=12),
    "id is null": headers_with(id=None),
    "id is a list": headers_with(id=["a"]),
    "task is a number": headers_with(task=5),
    "task is null": headers_with(task=None),
    "task is a dict": headers_with(task={"a": 1}),
    "eta is a number": headers_with(eta=5),
    "eta is no time": headers_with(eta="the day after tomorrow"),
    "eta is a list": headers_with(eta=[2026, 1, 1]),
    "expires is no time": headers_with(expires="never"),
    "expires is a dict": headers_with(expires={"in": 5}),
    "timelimit is a string": headers_with(timelimit="soon"),
    "timelimit is short": headers_with(timelimit=[1]),
    "timelimit holds strings": headers_with(timelimit=["a", "b"]),
    "retries is a string": headers_with(retries="many"),
    "headers is a list": lambda envelope: envelope.update(headers=[1]),
    "headers is null": lambda envelope: envelope.update(headers=None),
    "headers is empty": lambda envelope: envelope.update(headers={}),
    "no content type": lambda envelope: envelope.pop("content-type"),
    "content type is a number": lambda envelope: envelope.update({"content-type": 4}),
    "unknown encoding": lambda envelope: envelope.update({"content-encoding": "klingon"}),
    "priority is a string": lambda envelope: envelope["properties"].update(priority="urgent"),
    "delivery_info is null": lambda envelope: envelope["properties"].update(delivery_info=None),
    "no delivery tag": lambda envelope: envelope["properties"].pop("delivery_tag"),
    "delivery tag is a number": lambda envelope: envelope["properties"].update(delivery_tag=3),
    "unknown body encoding": lambda envelope: envelope["properties"].update(body_encoding="rot13"),
    "unknown compression": headers_with(compression="application/x-squeezed"),
}


@pytest.mark.parametrize("name", WRONG_HEADERS)
def test_headers_of_wrong_types_hurt_their_message_alone(stage: Stage, name: str) -> None:
    """Some of these run, some fail, some are put aside; none may take the worker or another message with it."""
    envelope = changed(capture(stage, stage.tasks.add.s(1, 1)), WRONG_HEADERS[name])
    before = [stage.tasks.add.delay(number, 1) for number in range(3)]
    put(stage, envelope)
    after = [stage.tasks.add.delay(number, 2) for number in range(3)]
    assert [result.get(timeout=15) for result in before + after] == [1, 2, 3, 2, 3, 4]
    stage.wait_until_drained()
    assert stage.worker.is_running


def test_body_of_64_mebibytes_passes(stage: Stage) -> None:
    size = 64 * 1024 * 1024
    result = stage.tasks.length.delay("x" * size)
    neighbours = [stage.tasks.add.delay(number, number) for number in range(5)]
    assert [neighbour.get(timeout=60) for neighbour in neighbours] == [0, 2, 4, 6, 8]
    assert result.get(timeout=60) == size
    stage.wait_until_drained()


@pytest.mark.parametrize("method", ["zlib", "zstd"])
def test_decompression_bomb_is_refused(stage: Stage, method: str) -> None:
    """A small message that unpacks to 2 GiB: it fails, memory stays, the next tasks run."""
    envelope = capture(stage, stage.tasks.length.s("x" * 2000), compression=method)
    bomb = bomb_of(2 * 1024**3, method)
    before = eventually(lambda: family_kib(stage))
    position = stage.worker.mark()
    put(stage, with_body(envelope, bomb))
    results = [stage.tasks.add.delay(number, 1) for number in range(5)]
    assert [result.get(timeout=60) for result in results] == [1, 2, 3, 4, 5]
    stage.worker.wait_for_line(r": (WARNING|ERROR|CRITICAL)/", after=position, deadline_s=60)
    stage.wait_until_drained(deadline_s=60)
    assert family_kib(stage) - before < 1024 * 1024
    assert stage.worker.is_running


def bomb_of(size: int, method: str) -> bytes:
    """Return ``size`` zero bytes, packed."""
    packer = zlib.compressobj(9) if method == "zlib" else zstandard.ZstdCompressor(level=1).compressobj()
    zeros = bytes(1 << 20)
    parts = [packer.compress(zeros) for _ in range(size >> 20)]
    return b"".join([*parts, packer.flush()])


def family_kib(stage: Stage) -> int:
    """Return the resident memory of all the worker's processes."""
    total = 0
    for pid in stage.worker.family():
        try:
            total += resident_kib(pid)
        except OSError:
            continue
    return total


@pytest.mark.control
def test_damaged_compression_is_an_undecodable_body(stage: Stage) -> None:
    envelope = capture(stage, stage.tasks.length.s("x" * 2000), compression="gzip")
    packed = gzip.compress(b"x" * 100)
    send_between_good_ones(stage, with_body(envelope, packed[:-12]), r": (WARNING|ERROR|CRITICAL)/")


def test_poisonous_task_is_parked_after_its_deliveries(stage: Stage) -> None:
    """A task that kills its process at every delivery is failed in the end; its neighbours run meanwhile."""
    result = stage.tasks.poison.delay("poison")
    neighbours = [stage.tasks.add.delay(number, 1) for number in range(20)]
    assert [neighbour.get(timeout=120) for neighbour in neighbours] == list(range(1, 21))
    error = result.get(timeout=180, propagate=False)
    assert result.state == "FAILURE", error
    runs = len(stage.journal("poison"))
    assert 2 <= runs <= 21, runs
    stage.wait_until_drained(deadline_s=60)
    assert len(stage.journal("poison")) == runs
