"""Our own API and Celery's, our worker of our own app and the stock worker: every pairing gives the same results."""

from __future__ import annotations

import gc
import importlib
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import celery
import celery.result
import pytest

import pyworker
from support.kinds import Kind
from support.redis_server import RedisServer
from support.waiting import eventually
from support.worker import APPS, WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::PendingDeprecationWarning",
    # Sockets of the stock client.
    "ignore::pytest.PytestUnraisableExceptionWarning",
)

OWN_WORKER = Kind("pyworker-own", (sys.executable, "-m", "pyworker"), "fast")
STOCK_WORKER = Kind("stock", (sys.executable, "-m", "celery"), "fast")
OWN = {"TEST_LIBRARY": "pyworker", "TEST_WITHOUT_CELERY": "1"}
PAIRINGS = {
    "own client, own worker": (pyworker, OWN_WORKER, OWN),
    "own client, stock worker": (pyworker, STOCK_WORKER, {"TEST_LIBRARY": "celery"}),
    "stock client, own worker": (celery, OWN_WORKER, OWN),
}


class Pairing(NamedTuple):
    """A client's application, and the worker that runs its tasks."""

    api: Any
    library: Any
    worker: WorkerProcess
    server: RedisServer
    is_own_client: bool
    is_own_worker: bool


@pytest.fixture(scope="module", params=PAIRINGS)
def pair(request: pytest.FixtureRequest) -> Iterator[Pairing]:
    """One worker for the module's tests."""
    library, kind, environment = PAIRINGS[request.param]
    if str(APPS) not in sys.path:
        sys.path.insert(0, str(APPS))
    with (
        RedisServer() as server,
        WorkerProcess(kind, "own_api", broker=server.url, environment=environment) as worker,
    ):
        api = importlib.import_module("own_api").make(library, server.url, server.url)
        yield Pairing(api, library, worker, server, library is pyworker, kind is OWN_WORKER)
        # Stock results unsubscribe when they are collected, some of them after the server's end.
        for leftover in gc.get_objects():
            if isinstance(type(leftover), type) and issubclass(type(leftover), celery.result.AsyncResult):
                leftover.backend = None
        api.app.close()


def get(result: Any, **options: Any) -> Any:
    """Wait for a result, but not for ever."""
    return result.get(timeout=60, **options)


def test_a_result_comes_back(pair: Pairing) -> None:
    result = pair.api.add.delay(4, 4)
    assert get(result) == 8
    assert result.state == "SUCCESS"
    assert result.successful()


def test_values_of_every_kind_travel(pair: Pairing) -> None:
    values = [None, True, 1, 1.5, "é\U0001f600", [1, [2]], {"a": {"b": None}}, 2**70]
    assert get(pair.api.echo.delay(*values, key="value")) == [values, {"key": "value"}]


def test_links_and_children(pair: Pairing) -> None:
    result = pair.api.add.apply_async((2, 2), link=pair.api.mul.s(16))
    assert get(result) == 4
    assert get(result.children[0]) == 64
    assert [value for _, value in result.collect()] == [4, 64]


def test_chains(pair: Pairing) -> None:
    add, mul = pair.api.add, pair.api.mul
    result = (add.s(4, 16) | mul.s(2) | (add.s(4) | mul.s(8)))()
    assert get(result) == 352
    assert get(result.parent) == 44
    assert get((add.s(4) | mul.s(8))(4)) == 64
    immutable = (add.si(2, 2) | add.si(4, 4) | add.si(8, 8))()
    assert [get(immutable), get(immutable.parent), get(immutable.parent.parent)] == [16, 8, 4]


def test_groups(pair: Pairing) -> None:
    add, group = pair.api.add, pair.library.group
    assert get(group(add.s(i, i) for i in range(10))()) == [2 * i for i in range(10)]
    assert get(group(add.s(i) for i in range(10))(10)) == list(range(10, 20))
    result = (add.s(4, 4) | group(add.si(i, i) for i in range(3)))()
    assert get(result) == [0, 2, 4]
    assert get(result.parent) == 8


def test_chords(pair: Pairing) -> None:
    add, mul, total, group = pair.api.add, pair.api.mul, pair.api.total, pair.library.group
    assert get(pair.library.chord(add.s(i, i) for i in range(100))(total.s())) == 9900
    assert get((group(add.s(i, i) for i in range(10)) | total.s() | mul.s(10))()) == 900
    assert get((add.s(1, 1) | group(add.s(1), add.s(2)) | total.s() | mul.s(10))()) == 70
    nested = pair.library.chord([add.s(1, 1) | mul.s(2), group(add.s(1, 1), add.s(2, 2))], total.s())
    assert get(nested()) == 10


def test_maps(pair: Pairing) -> None:
    assert get(pair.api.total.map([[1, 2], [3]]).delay()) == [3, 3]
    assert get(pair.api.add.starmap(zip(range(3), range(3), strict=True)).delay()) == [0, 2, 4]
    assert get(pair.api.add.chunks(zip(range(5), range(5), strict=True), 2)()) == [[0, 2], [4, 6], [8]]


def test_a_failing_header_fails_the_body(pair: Pairing) -> None:
    header = [pair.api.add.s(4, 4), pair.api.fail.s("in header"), pair.api.add.s(8, 8)]
    result = pair.library.chord(header)(pair.api.total.s())
    error = eventually(lambda: result.state == "FAILURE" and result.result, what="the body failed")
    assert type(error).__name__ == "ChordError"
    assert "raised" in str(error)
    assert "in header" in str(error)


def test_failures_are_raised_as_themselves(pair: Pairing) -> None:
    surprise = sys.modules["own_api"].Surprise
    result = pair.api.fail.delay("oh")
    with pytest.raises(surprise) as raised:
        get(result)
    assert raised.value.args == ("oh", 1)
    assert isinstance(get(result, propagate=False), surprise)
    assert result.failed()
    assert "in fail" in result.traceback


def test_a_failure_fails_the_rest_of_its_chain(pair: Pairing) -> None:
    result = (pair.api.fail.s() | pair.api.add.s(1) | pair.api.add.s(2))()
    assert type(get(result, propagate=False)).__name__ == "Surprise"


def test_retries(pair: Pairing) -> None:
    assert get(pair.api.flaky.delay(2)) == 2
    assert type(get(pair.api.flaky.delay(9), propagate=False)).__name__ == "Surprise"
    assert get(pair.api.auto.delay()) == 2


def test_countdown_and_expiry(pair: Pairing) -> None:
    begin = time.monotonic()
    assert get(pair.api.add.apply_async((1, 1), countdown=1)) == 2
    assert time.monotonic() - begin >= 0.95
    expired = pair.api.add.apply_async((1, 1), countdown=1, expires=0.5)
    assert type(get(expired, propagate=False)).__name__ == "TaskRevokedError"
    assert expired.state == "REVOKED"


def test_the_request_knows_its_message(pair: Pairing) -> None:
    names = ("id", "root_id", "parent_id", "retries", "headers", "group", "called_directly", "delivery_info")
    result = pair.api.request.apply_async(names, headers={"x-custom": "1"}, priority=3)
    seen = get(result)
    assert seen["id"] == seen["root_id"] == result.id
    assert seen["headers"] == {"x-custom": "1"}
    assert seen["delivery_info"]["routing_key"] == "celery"
    assert seen["delivery_info"]["priority"] == 3
    assert (seen["retries"], seen["called_directly"], seen["parent_id"]) == (0, False, None)


def test_states_of_the_users_own(pair: Pairing) -> None:
    seen: list[Any] = []
    result = pair.api.progress.apply_async(countdown=0.5)
    assert get(result, on_message=lambda meta: seen.append((meta["status"], meta["result"]))) == "done"
    assert seen[-1] == ("SUCCESS", "done")
    assert ("PROGRESS", {"done": 50}) in seen


def test_states_written_beside_the_main_thread(pair: Pairing) -> None:
    seen: list[str] = []
    result = pair.api.aside.apply_async(countdown=0.5)
    assert get(result, on_message=lambda meta: seen.append(meta["status"])) == "0"
    assert seen == ["FROM_THREAD", "FROM_PROCESS", "SUCCESS"]


def test_tasks_sent_by_tasks_are_their_children(pair: Pairing) -> None:
    result = pair.api.parent.delay()
    child = pair.api.app.AsyncResult(get(result))
    assert get(child) == 3
    assert [each.id for each in result.children] == [child.id]


def test_replaced_tasks_keep_their_id(pair: Pairing) -> None:
    assert get(pair.api.replaced.delay(1)) == 1001


def test_ignored_results_are_not_stored(pair: Pairing) -> None:
    result = pair.api.ignored.delay()
    assert result.get() is None
    get(pair.api.add.delay(1, 1))
    assert not pair.server.client.exists(f"celery-task-meta-{result.id}")


def test_unknown_tasks_fail(pair: Pairing) -> None:
    error = get(pair.api.app.send_task("own.unknown"), propagate=False)
    assert type(error).__name__ == "NotRegistered"


def test_soft_time_limits_are_raised(pair: Pairing) -> None:
    assert type(get(pair.api.slow.delay(), propagate=False)).__name__ == "SoftTimeLimitExceeded"


def test_rate_limits_are_kept(pair: Pairing) -> None:
    starts = sorted(get(result) for result in [pair.api.limited.delay() for _ in range(6)])
    assert starts[-1] - starts[0] >= 0.4


def test_a_lost_child_fails_its_task(pair: Pairing) -> None:
    error = get(pair.api.exit.delay(), propagate=False)
    assert type(error).__name__ == "WorkerLostError"
    assert "exitcode 3" in str(error)


def test_serializers_and_compression(pair: Pairing) -> None:
    assert get(pair.api.add.apply_async((1, 2), compression="zlib")) == 3
    refused = pair.api.add.apply_async((1, 2), serializer="pickle")
    pair.worker.wait_for_line(refused.id if pair.is_own_worker else "Refusing to deserialize")


def test_a_batch(pair: Pairing) -> None:
    if not pair.is_own_client:
        pytest.skip("only our API sends batches")
    results = pair.api.app.send_many([pair.api.add.s(i, 1) for i in range(1000)])
    whole = pyworker.GroupResult("batch", results, app=pair.api.app)
    assert get(whole) == list(range(1, 1001))


def test_messages_of_protocol_1_run(pair: Pairing) -> None:
    old = celery.Celery(broker=pair.server.url, backend=pair.server.url, set_as_current=False)
    old.conf.task_protocol = 1
    result = old.send_task("own.add", (20, 22), countdown=0.2)
    assert get(pair.api.app.AsyncResult(result.id)) == 42
    result.backend = None
    old.close()


def test_revoked_tasks_do_not_run(pair: Pairing) -> None:
    single = pair.api.add.apply_async((1, 1), countdown=30)
    whole = pair.library.group(pair.api.add.s(1, 1), pair.api.add.s(2, 2)).apply_async(countdown=30)
    for result in (single, whole):
        # Celery's client keeps the answers to itself; a worker under load may be late with them.
        answers = eventually(
            lambda result=result: result.revoke(wait=True, timeout=2) or not pair.is_own_client,  # type: ignore[misc]
            what="the worker answers",
        )
        assert not pair.is_own_client or [next(iter(answer.values())).keys() for answer in answers] == [{"ok"}]
    waiting = pair.api.add.apply_async((1, 1), countdown=3)
    waiting.revoke()
    assert type(get(waiting, propagate=False)).__name__ == "TaskRevokedError"
    assert waiting.state == "REVOKED"


def test_remote_control_answers(pair: Pairing) -> None:
    stock = celery.Celery(broker=pair.server.url, set_as_current=False)
    replies = eventually(lambda: stock.control.ping(timeout=10, limit=1), what="the worker answers a ping")
    assert list(replies[0].values()) == [{"ok": "pong"}]
    stock.close()
