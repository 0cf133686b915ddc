"""What a worker declares on RabbitMQ: exactly what a stock worker of the same application does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery
from kombu import Connection

from support.connected import STOCK, WORKER
from support.rabbitmq_server import RabbitmqHost
from support.redis_server import RedisServer
from support.waiting import eventually
from support.worker import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("rabbitmq")]

#: Of remote control, events and neighbours: another subject.
_OTHERS = ("celeryev", "celery.pidbox", "reply.celery", "amq.", "celery@", "worker")


@pytest.fixture(scope="module")
def results() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


def topology(
    host: RabbitmqHost, results: RedisServer, kind: Any, environment: Mapping[str, str], options: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return what is there once a worker consumes, comparable."""
    if environment["TEST_QUEUE_TYPE"] == "classic" and not options:
        with Connection(host.url) as connection:
            # Of what is not to be declared, or only asked for, somebody else takes care.
            channel = connection.default_channel
            channel.exchange_declare("declared.quiet", "direct", durable=True, auto_delete=False)
            channel.queue_declare("declared.quiet", durable=True, auto_delete=False, arguments={"x-max-length": 77})
            channel.exchange_declare("declared.given", "topic", durable=False, auto_delete=False)
    worker = WorkerProcess(
        kind, "declaring", broker=host.url, backend=results.url, options=("-c", "1", *options), environment=environment
    )
    with worker:
        return eventually(lambda: described(host), deadline_s=60, what="every queue has its consumer")


def described(host: RabbitmqHost) -> dict[str, Any]:
    queues = {
        queue["name"]: {key: queue[key] for key in ("durable", "auto_delete", "exclusive", "arguments")}
        | {"consumed": queue.get("consumers", 0) > 0}
        for queue in host.node.manage("GET", f"queues/{host.name}")
        if not is_others(queue["name"])
    }
    assert queues
    # The levels of delayed messages are for nobody to consume.
    assert all(queue["consumed"] for name, queue in queues.items() if not name.startswith("celery_delayed"))
    exchanges = {
        exchange["name"]: {key: exchange[key] for key in ("type", "durable", "auto_delete", "arguments")}
        for exchange in host.node.manage("GET", f"exchanges/{host.name}")
        if exchange["name"] and not is_others(exchange["name"])
    }
    bindings = sorted(
        (one["source"], one["destination_type"], one["destination"], one["routing_key"], str(one["arguments"]))
        for one in host.node.manage("GET", f"bindings/{host.name}")
        if one["source"] and not is_others(one["source"]) and not is_others(one["destination"])
    )
    return {"queues": queues, "exchanges": exchanges, "bindings": bindings}


def is_others(name: str) -> bool:
    return name.startswith(_OTHERS) or name.endswith(".pidbox")


#: What TEST_QUEUE_TYPE makes of the application, the exchange type of missing queues, and the worker's options.
CASES = {
    "every argument": ("classic", "", ()),
    "quorum": ("quorum", "", ()),
    "a missing queue": ("classic", "", ("-Q", "declared.missing,declared.default")),
    "a missing queue of a topic exchange": ("quorum", "topic", ("-Q", "declared.missing")),
    "priorities everywhere": ("ranked", "", ("-Q", "declared.missing,declared.default")),
}


@pytest.mark.parametrize("case", CASES)
def test_a_worker_declares_what_a_stock_worker_declares(case: str, results: RedisServer) -> None:
    """With applications of both libraries."""
    queue_type, missing, options = CASES[case]
    environment = {"TEST_QUEUE_TYPE": queue_type} | ({"TEST_MISSING_EXCHANGE_TYPE": missing} if missing else {})
    found = {}
    for name, kind, library in (("stock", STOCK, "celery"), ("ours", WORKER, "celery"), ("own", WORKER, "pyworker")):
        with RabbitmqHost() as host:
            found[name] = topology(host, results, kind, {**environment, "TEST_LIBRARY": library}, options)
    stock = found["stock"]
    assert all(name in stock["queues"] for name in options[1].split(",")) if options else stock["queues"]
    for name in ("ours", "own"):
        # Direct queues are led back to from the delay levels by a key of ours, which kombu cannot do.
        ours = found[name]
        ours["bindings"] = [one for one in ours["bindings"] if "pyworker-" not in one[3]]
        assert set(ours["bindings"]) ^ set(stock["bindings"]) == set(), name
        assert ours == stock, name


def test_a_passive_exchange_that_is_missing_ends_the_worker_as_it_ends_a_stock_worker(results: RedisServer) -> None:
    codes = {}
    for name, kind, library in (("stock", STOCK, "celery"), ("ours", WORKER, "celery"), ("own", WORKER, "pyworker")):
        environment = {"TEST_QUEUE_TYPE": "classic", "TEST_LIBRARY": library}
        with RabbitmqHost() as host:
            worker = WorkerProcess(
                kind, "declaring", broker=host.url, backend=results.url, environment=environment,
                options=("-c", "1", "-Q", "declared.given"),
            )  # fmt: skip
            try:
                worker.start(is_ready=False)
                worker.wait_for_line("NOT_FOUND.*declared.given", deadline_s=60)
                codes[name] = worker.wait(deadline_s=60)
            finally:
                worker.close()
    assert codes["ours"] == codes["own"] == codes["stock"] != 0


def test_celerys_delayed_delivery_is_read_both_ways(results: RedisServer) -> None:
    """A stock client delays in the server where queues are quorum queues; our worker runs it when it is due."""
    with RabbitmqHost() as host:
        for kind in (WORKER, STOCK):
            worker = WorkerProcess(
                kind, "declaring", broker=host.url, backend=results.url, options=("-c", "1"),
                environment={"TEST_QUEUE_TYPE": "quorum"},
            )  # fmt: skip
            with worker:
                app = Celery("client", broker=host.url, backend=results.url, set_as_current=False)
                app.conf.update(
                    task_default_queue="declared.default", task_default_queue_type="quorum",
                    task_default_exchange_type="topic",
                )  # fmt: skip
                later = app.send_task("declaring.answer", ("later",), countdown=2)
                assert app.send_task("declaring.answer", ("now",)).get(timeout=60) == "now"
                assert later.get(timeout=60) == "later"
                app.backend.result_consumer.stop()
                app.close()
