"""Workflows that cross between a stock Celery worker and ours in mid-flow: each step runs where its queue says.

One queue is served by both: there it is chance, and each step may be the other worker's.
"""

from __future__ import annotations

import importlib
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import celery
import pytest

import pyworker
from support.kinds import Kind
from support.rabbitmq_server import RabbitmqHost
from support.redis_server import RedisServer
from support.waiting import eventually
from support.worker import APPS, WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning",
        "ignore::PendingDeprecationWarning",
        # Sockets of the stock client.
        "ignore::pytest.PytestUnraisableExceptionWarning",
    ),
]

WORKERS = {
    "ours": (
        Kind("pyworker-own", (sys.executable, "-m", "pyworker"), "fast"),
        {"TEST_LIBRARY": "pyworker", "TEST_WITHOUT_CELERY": "1"},
    ),
    "stock": (Kind("stock", (sys.executable, "-m", "celery"), "fast"), {"TEST_LIBRARY": "celery"}),
}


#: What each worker serves; what takes a task's place goes to the default queue, which is our worker's.
QUEUES = {"ours": "ours,both,celery", "stock": "stock,both"}


class Clients(NamedTuple):
    """The same application, defined by both libraries."""

    ours: Any
    stock: Any


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def clients(request: pytest.FixtureRequest) -> Iterator[Clients]:
    """One worker of each kind and a client of each kind; results are in Redis."""
    if str(APPS) not in sys.path:
        sys.path.insert(0, str(APPS))
    module = importlib.import_module("own_api")
    with ExitStack() as stack:
        store = stack.enter_context(RedisServer()).url
        broker = stack.enter_context(RabbitmqHost()).url if request.param == "rabbitmq" else store
        for name, (kind, environment) in WORKERS.items():
            stack.enter_context(
                WorkerProcess(kind, "own_api", broker=broker, backend=store, environment=environment,
                              options=("-c", "2", "-n", f"{name}@%h", "-Q", QUEUES[name]))
            )  # fmt: skip
        made = [module.make(library, broker, store) for library in (pyworker, celery)]
        yield Clients(*made)
        for each in made:
            each.app.close()


@pytest.fixture(params=["ours", "stock"])
def client(request: pytest.FixtureRequest, clients: Clients) -> Any:
    """Either client."""
    return getattr(clients, request.param)


@pytest.fixture(params=[("ours", "stock"), ("stock", "ours")], ids=["ours first", "stock first"])
def here_and_there(request: pytest.FixtureRequest) -> Any:
    """The two queues, in both orders."""
    return request.param


def at(queue: str, sig: Any) -> Any:
    """A signature that runs on one worker."""
    return sig.set(queue=queue)


def get(result: Any, **options: Any) -> Any:
    return result.get(timeout=30, **options)


def test_chains_cross(client: Any, here_and_there: Any) -> None:
    here, there = here_and_there
    result = (
        at(here, client.add.s(1, 1))
        | at(there, client.mul.s(3))
        | at(here, client.add.s(4))
        | at(there, client.mul.s(2))
    )()
    assert get(result) == 20
    assert [get(result.parent), get(result.parent.parent), get(result.parent.parent.parent)] == [10, 6, 2]


def test_callbacks_cross(client: Any, here_and_there: Any) -> None:
    here, there = here_and_there
    result = client.add.apply_async((2, 2), queue=here, link=at(there, client.mul.s(16)))
    assert get(result) == 4
    assert get(result.children[0]) == 64


def test_one_header_on_both(client: Any, here_and_there: Any) -> None:
    """Both kinds of worker count the parts; whichever is last sends the body, to either."""
    here, there = here_and_there
    for size in (1, 2, 7, 20):
        header = [at((here, there)[number % 2], client.add.s(number, number)) for number in range(size)]
        result = client.library.chord(header)(at(there, client.total.s()))
        assert get(result) == size * (size - 1)


def test_chords_in_chains_and_chains_in_chords(client: Any, here_and_there: Any) -> None:
    here, there = here_and_there
    group, add, mul, total = client.library.group, client.add, client.mul, client.total
    flow = (
        at(here, add.s(1, 1))
        | group(at(there, add.s(1)), at(here, add.s(2)))
        | at(there, total.s())
        | group(at(here, mul.s(2)) | at(there, add.s(1)), at(there, mul.s(3)) | at(here, add.s(1)))
        | at(here, total.s())
        | at(there, mul.s(10))
    )
    assert get(flow()) == 370


def test_nested_chords(client: Any, here_and_there: Any) -> None:
    here, there = here_and_there
    add, total, chord = client.add, client.total, client.library.chord
    inner = [
        chord([at(here, add.s(1, 1)), at(there, add.s(2, 2))], at(there, total.s())),
        chord([at(there, add.s(3, 3)), at(here, add.s(4, 4))], at(here, total.s())),
    ]
    assert get(chord(inner, at(there, total.s()))()) == 20


def test_groups_within_headers_keep_their_shape(client: Any, here_and_there: Any) -> None:
    here, there = here_and_there
    add, group, chord = client.add, client.library.group, client.library.chord
    header = [at(here, add.s(5, 5)), at(here, add.s(1, 1)) | group(at(there, add.s(1)), at(here, add.s(2)))]
    assert get(chord(header, at(there, client.echo.s()))()) == [[[10, [3, 4]]], {}]


def test_a_failure_crosses(client: Any, here_and_there: Any) -> None:
    here, there = here_and_there
    result = (at(here, client.fail.s()) | at(there, client.add.s(1)) | at(here, client.add.s(2)))()
    assert type(get(result, propagate=False)).__name__ == "Surprise"
    header = [at(here, client.add.s(1, 1)), at(there, client.fail.s("in header")), at(here, client.add.s(2, 2))]
    whole = client.library.chord(header)(at(here, client.total.s()))
    error = eventually(lambda: whole.state == "FAILURE" and whole.result, what="the body failed")
    assert type(error).__name__ == "ChordError"
    assert "in header" in str(error)


def test_a_failure_in_the_chain_of_a_header(client: Any, here_and_there: Any) -> None:
    here, there = here_and_there
    header = [
        at(here, client.add.s(1, 1)),
        at(here, client.fail.si()) | at(there, client.add.s(1)) | at(here, client.add.s(2)),
    ]
    whole = client.library.chord(header)(at(there, client.total.s()))
    error = eventually(lambda: whole.state == "FAILURE" and whole.result, what="the body failed")
    assert type(error).__name__ == "ChordError"


def test_replaced_tasks_cross(client: Any, here_and_there: Any) -> None:
    here, there = here_and_there
    flow = at(here, client.replaced.s(1)) | at(there, client.mul.s(2)) | at(here, client.add.s(1))
    assert get(flow()) == 2003


def test_maps_cross(client: Any, here_and_there: Any) -> None:
    here, there = here_and_there
    flow = at(here, client.total.map([[1, 2], [3]])) | at(there, client.total.s())
    assert get(flow()) == 6
    assert get(client.add.chunks([(i, i) for i in range(5)], 2).apply_async(queue=there)) == [[0, 2], [4, 6], [8]]


def test_steps_of_a_shared_queue_run_on_either(client: Any) -> None:
    """Both workers take what they can get; there is enough for both, and the flow holds whoever ran what."""
    add, total, group = client.add, client.total, client.library.group
    parts = [at("both", add.si(number, 1)) | at("both", add.s(1)) for number in range(20)]
    flow = at("both", add.s(0, 0)) | group(parts) | at("both", total.s()) | at("both", add.s(1000))
    names: set[str] = set()

    def have_both_run() -> bool:
        assert get(flow()) == sum(number + 2 for number in range(20)) + 1000
        asked = group(at("both", client.request.s("hostname")) for _ in range(20))()
        names.update(answer["hostname"].partition("@")[0] for answer in get(asked))
        return names == {"ours", "stock"}

    eventually(have_both_run, deadline_s=60, what="both workers ran some")


def test_saved_groups_are_read_by_both(clients: Clients) -> None:
    for writer, reader in ((clients.ours, clients.stock), (clients.stock, clients.ours)):
        result = writer.library.group(at("ours", writer.add.s(1, 1)), at("stock", writer.add.s(2, 2)))()
        assert get(result) == [2, 4]
        result.save()
        module = importlib.import_module(f"{reader.library.__name__}.result")
        assert get(module.GroupResult.restore(result.id, app=reader.app)) == [2, 4]
