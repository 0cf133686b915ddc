"""``rpc://`` results: stock clients read what our worker answers, our clients what a stock worker answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection

from pyworker import chord, group
from pyworker.identifiers import reply_address
from support.connected import STOCK, WORKER, connected_client, connected_worker
from support.rabbitmq_server import RabbitmqHost
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.kinds import Kind

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("rabbitmq"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning"),
]


@pytest.fixture
def host() -> Iterator[RabbitmqHost]:
    with RabbitmqHost() as opened:
        yield opened


def settings_of(host: RabbitmqHost, **more: Any) -> dict[str, Any]:
    return {"broker_url": host.url, "result_backend": "rpc://", **more}


def close(client: Any) -> None:
    """Close an application's connections."""
    consumer = getattr(client.app.backend, "result_consumer", None)
    if consumer is not None and consumer._consumer is not None:
        consumer.stop()
    client.app.close()


@pytest.mark.parametrize(
    ("client_library", "worker_library", "engine"),
    [
        ("celery", "celery", WORKER),
        ("celery", "pyworker", WORKER),
        ("pyworker", "celery", STOCK),
        ("pyworker", "pyworker", WORKER),
    ],
)
def test_answers_come_back(client_library: str, worker_library: str, engine: Kind, host: RabbitmqHost) -> None:
    settings = settings_of(host, task_track_started=True)
    client = connected_client(client_library, settings)
    with connected_worker(worker_library, settings, kind=engine):
        sent = [client.add.delay(number, 1) for number in range(100)]
        assert [result.get(timeout=60) for result in sent] == list(range(1, 101))
        failing = client.add.delay(1, "text")
        with pytest.raises(TypeError, match="unsupported operand"):
            failing.get(timeout=60)
        assert failing.status == "FAILURE"
        assert "Traceback" in failing.traceback
        if engine is WORKER:
            assert eventually(lambda: host.connections(name_starts="pyworker results"), what="the engine's own way")
    close(client)


def test_our_worker_answers_as_a_stock_worker_does(host: RabbitmqHost) -> None:
    """Message by message: properties, headers and every byte of the body but ids and times."""
    settings = settings_of(host, result_extended=True)
    answers = {}
    for kind in (STOCK, WORKER):
        client = connected_client("celery", settings)
        with Connection(host.url) as connection, connected_worker("celery", settings, kind=kind):
            channel = connection.default_channel
            queue = channel.queue_declare(f"answers-{kind.name}").queue
            client.add.apply_async((1, 2), reply_to=queue, task_id="the-task")
            client.add.apply_async((1, "x"), reply_to=queue, task_id="the-failing-task")
            found = []
            while len(found) < 2:
                found.append(eventually(lambda: channel.basic_get(queue, no_ack=True), what="an answer"))  # noqa: B023
            answers[kind.name] = sorted((comparable(message) for message in found), key=lambda one: one[1])
        close(client)
    assert answers["stock"] == answers["pyworker"]


def comparable(message: Any) -> tuple[Any, ...]:
    meta = json.loads(message.body)
    order = list(meta)
    for name in ("date_done", "traceback", "worker"):
        meta[name] = bool(meta.get(name))
    return meta["task_id"], json.dumps(meta), order, message.properties, message.delivery_info["routing_key"][:7]


def test_nobody_waits_in_vain_for_what_nobody_asked(host: RabbitmqHost) -> None:
    """A client that is gone, and one that wants no answer, stop nothing."""
    settings = settings_of(host)
    client = connected_client("pyworker", settings)
    with connected_worker("pyworker", settings) as worker:
        client.add.apply_async((1, 1), reply_to="a-queue-that-is-gone")
        client.add.apply_async((1, 1), ignore_result=True)
        assert client.add.delay(2, 2).get(timeout=60) == 4
        assert worker.stop() == 0
    close(client)


def test_answers_survive_a_cut_on_both_sides(host: RabbitmqHost) -> None:
    settings = settings_of(host)
    client = connected_client("pyworker", settings)
    with connected_worker("pyworker", settings):
        assert client.add.delay(1, 1).get(timeout=60) == 2
        # The server's list lags by seconds.
        eventually(lambda: len(host.connections()) >= 2, deadline_s=60, what="the server lists both sides")
        assert host.cut() >= 2
        assert client.add.delay(2, 2).get(timeout=60) == 4
    close(client)


def test_a_reply_queue_that_the_server_forgot_is_there_again_before_the_next_answer(host: RabbitmqHost) -> None:
    """It goes when it expires and with the last connection that consumed from it; the next message brings it back."""
    settings = settings_of(host)
    client = connected_client("pyworker", settings)
    queue = reply_address()
    with connected_worker("pyworker", settings):
        for number in range(3):
            # The first time nobody has consumed from it yet, then somebody who is cut off.
            result = client.add.delay(number, 1)
            eventually(lambda: host.waiting(queue) == 1, deadline_s=60, what="the answer waits for its reader")
            assert result.get(timeout=60) == number + 1
            host.node.manage("DELETE", f"queues/{host.name}/{queue}")
            client.app.backend.close()
        batch = group(client.add.s(number, 2) for number in range(5)).apply_async()
        eventually(lambda: host.waiting(queue) == 5, deadline_s=60, what="the answers wait for their reader")
        assert batch.get(timeout=60) == [2, 3, 4, 5, 6]
    close(client)


def test_chords_are_refused_with_the_reason(host: RabbitmqHost) -> None:
    client = connected_client("pyworker", settings_of(host))
    with pytest.raises(NotImplementedError, match="rpc:// results are messages and not stored"):
        chord([client.add.s(1, 1), client.add.s(2, 2)], client.add.s(1)).apply_async()
    close(client)
