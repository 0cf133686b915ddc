"""``pyworker bench`` tells right results from wrong ones, and measures a worker that is known: stock Celery's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import celery
import celery.signals
import pytest
import redis
from click.testing import CliRunner

from pyworker.bench import tally
from pyworker.bench.delay_proxy import DelayProxy
from pyworker.bench.peers.celery_protocol import CeleryClient, make_app
from pyworker.bench.redis_server import RedisServer
from pyworker.bench.settings import AppSettings
from pyworker.cli.bench import bench
from support.programs import program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyworker.bench.peers.base import Client


@pytest.fixture
def installed() -> None:
    """The bench's own private servers are of this program."""
    program("redis-server", "valkey-server")


@pytest.fixture
def private_server(installed: None) -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture
def settings(private_server: RedisServer, tmp_path: Path) -> AppSettings:
    path = str(tmp_path / "tally")
    tally.create(path, 100)
    return AppSettings(
        broker_url=private_server.url(0),
        backend_url=private_server.url(1),
        queue="bench",
        tally_path=path,
        tally_capacity=100,
    )


@pytest.fixture
def client(settings: AppSettings) -> Iterator[Client]:
    client = CeleryClient(make_app(celery.Celery, celery.signals, settings), celery.group, settings, "")
    yield client
    client.close()


def _queued(settings: AppSettings) -> list[dict[str, object]]:
    with redis.Redis.from_url(settings.broker_url) as broker:
        return [json.loads(raw) for raw in reversed(broker.lrange(settings.queue, 0, -1))]


def _store(settings: AppSettings, task_id: object, **meta: object) -> None:
    with redis.Redis.from_url(settings.backend_url) as backend:
        backend.set(f"celery-task-meta-{task_id}", json.dumps({"task_id": task_id, **meta}))


def _headers(message: dict[str, object]) -> dict[str, object]:
    headers = message["headers"]
    assert isinstance(headers, dict)
    return headers


def test_copied_messages_equal_sent_ones_but_for_id_and_arguments(client: Client, settings: AppSettings) -> None:
    client.send(5)
    client.preload(range(6, 8))
    sent, first_copy, second_copy = _queued(settings)
    assert _headers(first_copy)["argsrepr"] == "(6,)"
    assert _headers(second_copy)["argsrepr"] == "(7,)"
    identifiers = {str(_headers(message)["id"]) for message in (sent, first_copy, second_copy)}
    assert len(identifiers) == 3
    as_if_sent = (
        json.dumps(first_copy)
        .replace(str(_headers(first_copy)["id"]), str(_headers(sent)["id"]))
        .replace("(6,)", "(5,)")
        .replace(str(first_copy["body"]), str(sent["body"]))
    )
    copy = json.loads(as_if_sent)
    sent_properties, copy_properties = sent["properties"], copy["properties"]
    assert isinstance(sent_properties, dict)
    assert {**copy_properties, "delivery_tag": 0, "delivery_info": 0} == {
        **sent_properties,
        "delivery_tag": 0,
        "delivery_info": 0,
    }
    assert copy["headers"] == sent["headers"]


def test_check_finds_missing_failed_wrong_and_mixed_up_results(client: Client, settings: AppSettings) -> None:
    client.preload(range(5))
    identifiers = [_headers(message)["id"] for message in _queued(settings)]
    _store(settings, identifiers[0], status="SUCCESS", result=0)
    _store(settings, identifiers[1], status="FAILURE", result=1)
    _store(settings, identifiers[2], status="SUCCESS", result=3)
    _store(settings, identifiers[4], status="SUCCESS", result=4)
    assert client.stored(0, 5) == 4
    problems = client.check(0, 5)
    assert [problem.partition(":")[0] for problem in problems] == ["task 1", "task 2", "task 3"]
    assert client.leftovers() == 5


def test_closing_leaves_nothing_in_the_servers(settings: AppSettings) -> None:
    client = CeleryClient(make_app(celery.Celery, celery.signals, settings), celery.group, settings, "")
    client.preload(range(5))
    _store(settings, _headers(_queued(settings)[0])["id"], status="SUCCESS", result=0)
    client.close()
    for url in (settings.broker_url, settings.backend_url):
        with redis.Redis.from_url(url) as connection:
            assert connection.keys("*") == []


def test_delay_proxy_adds_the_round_trip(private_server: RedisServer) -> None:
    with DelayProxy("127.0.0.1", private_server.port, 20.0) as proxy, redis.Redis(port=proxy.port) as connection:
        payload = b"x" * 3_000_000
        connection.set("big", payload)
        assert connection.get("big") == payload
        started = connection.time()
        ended = connection.time()
        elapsed_s = ended[0] - started[0] + (ended[1] - started[1]) / 1e6
        assert elapsed_s >= 0.02


def test_private_server_is_gone_afterwards(installed: None) -> None:
    with RedisServer() as running:
        port = running.port
    with redis.Redis(port=port) as connection, pytest.raises(redis.ConnectionError):
        connection.ping()


@pytest.mark.slow
def test_bench_measures_the_stock_worker_and_checks_its_results(tmp_path: Path) -> None:
    target = tmp_path / "figures.json"
    short = ["--idle-round-trips", "20", "--idle-cpu-s", "0.2", "--load-s", "0.5"]
    words = ["--worker", "celery", "--tasks", "300", "--lane", "receivers", "--json", str(target)]
    result = CliRunner().invoke(bench, [*words, *short])
    assert result.exit_code == 0, result.output
    data = json.loads(target.read_text())
    (figures,) = data["subjects"]["celery"]
    assert figures["checked_results"] > 320
    assert figures["repeated"] == 0
    assert figures["exit_code"] == 0
    assert 50 < figures["drain_per_s"] < 20_000
    assert figures["cpu_s_per_1000"] > 0.05
    assert figures["processes"] == 3
    assert 0 < figures["idle_p50_ms"] <= figures["idle_p99_ms"]
    assert data["problems"] == []


def test_unknown_peer_is_refused_with_the_known_ones() -> None:
    result = CliRunner().invoke(bench, ["--compare", "celery,rabbit"])
    assert result.exit_code == 2
    assert "unknown worker 'rabbit'" in result.output
    assert "dramatiq" in result.output
