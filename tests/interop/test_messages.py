"""Messages: serializers, compression, typed values, the request's fields, headers, protocol 1, priorities, results."""

from __future__ import annotations

import datetime
import decimal
import json
import uuid
from typing import TYPE_CHECKING, Any

import celery.backends.base
import pytest

from pyworker.compat.celery.versions import installed_version
from support.stage import Stage
from support.waiting import eventually

if TYPE_CHECKING:
    from support.kinds import Kind

pytestmark = pytest.mark.control

APP = "formats"
WORKER_OPTIONS = ("-c", "1")
CELERY = installed_version()


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml", "msgpack"])
def test_every_accepted_serializer_arrives(stage: Stage, serializer: str) -> None:
    arguments = (1, 2.5, "text", [1, {"a": None}], True)
    result = stage.tasks.echo.apply_async(arguments, {"key": "väl"}, serializer=serializer)
    assert result.get(timeout=30) == [list(arguments), {"key": "väl"}]


def test_pickled_object_arrives(stage: Stage) -> None:
    assert stage.tasks.sum_point.delay(stage.tasks.Point(3, 4)).get(timeout=30) == 7


@pytest.mark.parametrize("compression", ["zlib", "bzip2", "gzip", "lzma", "zstd", "brotli"])
@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_every_compression_arrives(stage: Stage, compression: str, serializer: str) -> None:
    text = "compressible " * 2000
    result = stage.tasks.length.apply_async((text,), compression=compression, serializer=serializer)
    assert result.get(timeout=30) == len(text)


def test_typed_json_values_keep_their_type(stage: Stage) -> None:
    values = (
        datetime.datetime(2026, 2, 3, 4, 5, 6, 789000, tzinfo=datetime.timezone.utc),
        datetime.date(2026, 2, 3),
        decimal.Decimal("12345678901234567890.125"),
        uuid.UUID("12345678-1234-5678-1234-567812345678"),
        b"\x00\xff",
        2**63 + 1,
        0.1,
        "täxt \U0001f40d \x00",
        None,
    )
    assert stage.tasks.describe.delay(*values).get(timeout=30) == [[type(v).__name__, repr(v)] for v in values]


def test_typed_json_results_keep_their_type(stage: Stage) -> None:
    assert stage.tasks.typed_values.delay().get(timeout=30) == stage.tasks.typed_values()


def test_request_shows_the_message(stage: Stage) -> None:
    result = stage.tasks.request_of.apply_async(
        task_id=f"request-{stage.kind.name}",
        headers={"custom": {"trace": ["a", 1]}},
        shadow="another name",
        time_limit=50,
        soft_time_limit=40,
        expires=3600,
        priority=3,
    )
    found = result.get(timeout=30)
    assert found["id"] == found["correlation_id"] == found["root_id"] == f"request-{stage.kind.name}"
    assert found["task"] == "formats.request_of"
    assert found["custom"] == {"trace": ["a", 1]}
    assert found["headers"]["custom"] == {"trace": ["a", 1]}
    assert found["shadow"] == "another name"
    assert found["timelimit"] == [50, 40]
    assert found["hostname"] == stage.worker.node_name
    assert found["delivery_info"] == {"exchange": "", "routing_key": "celery", "priority": 3, "redelivered": False}
    assert found["retries"] == 0
    assert found["lang"] == "py"
    assert (found["is_eager"], found["called_directly"]) == (False, False)
    assert found["parent_id"] is None
    assert datetime.datetime.fromisoformat(found["expires"]) > datetime.datetime.now(datetime.timezone.utc)
    assert found["eta"] is None
    assert (found["args"], found["kwargs"]) == ([], {})
    assert (found["argsrepr"], found["kwargsrepr"]) == ("()", "{}")
    assert "@" in found["origin"]
    assert found["group"] is None
    assert found["chord"] is None
    assert found["reply_to"]


def test_hidden_arguments_stay_out_of_the_log(stage: Stage) -> None:
    position = stage.worker.mark()
    result = stage.tasks.echo.apply_async(("secret",), {"key": "secret"}, argsrepr="(<hidden>,)", kwargsrepr="{...}")
    assert result.get(timeout=30) == [["secret"], {"key": "secret"}]
    stage.worker.wait_for_line(rf"Task formats\.echo\[{result.id}\] succeeded", after=position)
    assert not any("secret" in line for line in stage.worker.lines_after(position) if "received" in line)


def protocol_1(name: str, args: Any, kwargs: Any, task_id: str, **fields: Any) -> dict[str, Any]:
    """Return a body of message protocol 1, as Celery 3 sent it."""
    return {
        "task": name,
        "id": task_id,
        "args": args,
        "kwargs": kwargs,
        "retries": 0,
        "eta": None,
        "expires": None,
        "utc": True,
        "callbacks": None,
        "errbacks": None,
        "timelimit": [None, None],
        "taskset": None,
        "chord": None,
        **fields,
    }


def send(stage: Stage, body: Any, **options: Any) -> None:
    with stage.app.producer_pool.acquire(block=True) as producer:
        producer.publish(body, exchange="", routing_key="celery", **options)


def test_protocol_1_is_understood(stage: Stage) -> None:
    send(stage, protocol_1("formats.echo", [1, "two"], {"three": 3}, "old-1"))
    assert stage.app.AsyncResult("old-1").get(timeout=30) == [[1, "two"], {"three": 3}]


def test_protocol_1_with_eta_and_callback_is_understood(stage: Stage) -> None:
    eta = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=0.5)
    callback = dict(stage.tasks.note.s("old-callback", "linked").set(immutable=True))
    callback["immutable"] = True
    send(stage, protocol_1("formats.length", ["four"], {}, "old-2", eta=eta.isoformat(), callbacks=[callback]))
    assert stage.app.AsyncResult("old-2").get(timeout=15) == 4
    assert stage.wait_for_journal("old-callback", 1)[0]["label"] == "linked"


def test_priorities_are_served_in_order(stage: Stage) -> None:
    holder = stage.tasks.gated.delay("priority-gate")
    stage.wait_for_journal("priority-gate", 1)
    # More than any worker reserves, so that order is decided by the lists.
    for label in range(60):
        stage.tasks.note.apply_async(("priorities", ["low", label]), priority=9)
    for label in range(3):
        stage.tasks.note.apply_async(("priorities", ["high", label]), priority=0)
    stage.open_gate("priority-gate")
    holder.get(timeout=30)
    entries = [entry["label"] for entry in stage.wait_for_journal("priorities", 63)]
    last_high = max(at for at, label in enumerate(entries) if label[0] == "high")
    assert last_high < 40, entries
    for kind_of in ("low", "high"):
        labels = [label for name, label in entries if name == kind_of]
        assert labels == sorted(labels)


def test_one_priority_is_first_in_first_out(stage: Stage) -> None:
    for label in range(50):
        stage.tasks.note.delay("order", label)
    assert [entry["label"] for entry in stage.wait_for_journal("order", 50)] == list(range(50))


def test_large_body_and_result_pass(stage: Stage) -> None:
    text = "ä" * 3_000_000
    assert stage.tasks.length.delay(text).get(timeout=30) == 3_000_000
    assert stage.tasks.echo.delay(text[:1_000_000]).get(timeout=30) == [[text[:1_000_000]], {}]


@pytest.mark.lanes("fast", "library")
def test_several_queues_are_all_read(kind: Kind) -> None:
    with Stage(kind, APP, options=("-c", "2", "-Q", "first,second,third")) as stage:
        results = [
            stage.tasks.echo.apply_async((number,), queue=("first", "second", "third")[number % 3])
            for number in range(30)
        ]
        assert [result.get(timeout=20)[0] for result in results] == [[number] for number in range(30)]
        idle = stage.tasks.echo.apply_async((1,), queue="celery")
        assert stage.tasks.echo.apply_async((2,), queue="third").get(timeout=30) == [[2], {}]
        assert not idle.ready()
        assert stage.queue_length("celery") == 1


@pytest.mark.lanes("fast", "library")
@pytest.mark.parametrize("setting", ["result_compression", "result_serializer", "prefix"])
def test_result_settings_apply(kind: Kind, setting: str) -> None:
    environment = {"TEST_RESULT_SETTING": setting}
    with Stage(kind, "result_settings", options=("-c", "1"), environment=environment) as stage:
        result = stage.tasks.echo.delay("x" * 1000)
        key = eventually(lambda: next(iter(stage.redis.keys(f"*celery-task-meta-{result.id}")), None))
        raw = stage.redis.execute_command("GET", key, NEVER_DECODE=True)
        if setting == "result_compression":
            # Celery compresses results since 5.7; before that it does not look at the setting.
            compresses = hasattr(celery.backends.base, "COMPRESSED_PAYLOAD_MAGIC")
            expected = b"\x00celery-compressed\x00application/x-gzip\x00" if compresses else b'{"status": "SUCCESS"'
            assert raw.startswith(expected), raw[:60]
        elif setting == "result_serializer":
            assert raw.startswith(b"\x80"), raw[:40]
        else:
            # Before 5.5 Celery put an underscore behind any prefix.
            prefix = "team:" if CELERY >= (5, 5) else "team:_"
            assert key == f"{prefix}celery-task-meta-{result.id}", key
        assert stage.redis.ttl(key) <= 120


@pytest.mark.lanes("fast", "library")
def test_extended_result_tells_about_the_task(kind: Kind) -> None:
    environment = {"TEST_RESULT_SETTING": "extended"}
    with Stage(kind, "result_settings", options=("-c", "1"), environment=environment) as stage:
        result = stage.tasks.echo_all.delay(1, two=2)
        assert result.get(timeout=30) == [[1], {"two": 2}]
        meta = json.loads(stage.redis.get(f"celery-task-meta-{result.id}"))
        assert meta.pop("date_done").startswith("20")
        assert meta == {
            "status": "SUCCESS",
            "result": [[1], {"two": 2}],
            "traceback": None,
            "children": [],
            "name": "result_settings.echo_all",
            "args": [1],
            "kwargs": {"two": 2},
            "worker": stage.worker.node_name,
            "retries": 0,
            "queue": "celery",
            "task_id": result.id,
        }
        failed = stage.tasks.fail.delay()
        failed.get(timeout=30, propagate=False)
        meta = json.loads(stage.redis.get(f"celery-task-meta-{failed.id}"))
        assert (meta["name"], meta["worker"]) == ("result_settings.fail", stage.worker.node_name)
        assert meta["result"] == {
            "exc_type": "ValueError",
            "exc_message": ["with all details"],
            "exc_module": "builtins",
        }


def test_plain_result_is_the_documented_json(stage: Stage) -> None:
    result = stage.tasks.length.delay("four")
    assert result.get(timeout=30) == 4
    raw = stage.redis.get(f"celery-task-meta-{result.id}")
    meta = json.loads(raw)
    done = datetime.datetime.fromisoformat(meta["date_done"])
    if CELERY < (5, 4):
        # UTC that does not say so.
        assert done.tzinfo is None
        done = done.replace(tzinfo=datetime.timezone.utc)
    assert abs((datetime.datetime.now(datetime.timezone.utc) - done).total_seconds()) < 60
    assert list(meta) == ["status", "result", "traceback", "children", "date_done", "task_id"]
    assert raw == json.dumps(meta)


def test_result_is_published_on_its_channel(stage: Stage) -> None:
    listener = stage.redis.pubsub()
    try:
        listener.subscribe("celery-task-meta-published-one")
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        stage.tasks.length.apply_async(("four",), task_id="published-one")
        message = listener.get_message(timeout=10)
        assert message["type"] == "message"
        assert message["data"] == stage.redis.get("celery-task-meta-published-one")
    finally:
        listener.close()
