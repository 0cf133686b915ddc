"""Every serializer with every compression, on both brokers, between every producer and every worker but stock's own."""

from __future__ import annotations

import datetime
import decimal
import importlib
import sys
import uuid
from typing import TYPE_CHECKING, Any

import celery
import pytest

import pyworker
from support.coded import KINDS, coded_workers
from support.rabbitmq_server import RabbitmqHost
from support.redis_server import RedisServer
from support.worker import APPS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import SimpleNamespace

pytestmark = [
    pytest.mark.filterwarnings(
        # Sockets of the stock client.
        "ignore::pytest.PytestUnraisableExceptionWarning",
    ),
]
SERIALIZERS = ("json", "pickle", "yaml", "msgpack")
COMPRESSIONS = (None, "zlib", "gzip", "bzip2", "lzma", "brotli", "zstd")
PAIRS = [(serializer, compression) for serializer in SERIALIZERS for compression in COMPRESSIONS]
TYPED = (
    datetime.datetime(2026, 2, 3, 4, 5, 6, 789000, tzinfo=datetime.timezone.utc), datetime.date(2026, 2, 3),
    datetime.time(4, 5, 6), decimal.Decimal("12345678901234567890.125"), uuid.UUID(int=2**100), b"\x00\xff", b"text",
    2**63 + 1, 2**70, 0.1, -0.0, "täxt \U0001f40d \x00", None, True,
)  # fmt: skip


@pytest.fixture(scope="module", params=["redis", pytest.param("rabbitmq", marks=pytest.mark.xdist_group("rabbitmq"))])
def fleet(request: pytest.FixtureRequest) -> Iterator[dict[str, SimpleNamespace]]:
    """A worker of each kind; the same application defined by both libraries, as their producers see it."""
    if str(APPS) not in sys.path:
        sys.path.insert(0, str(APPS))
    module = importlib.import_module("coded")
    with RedisServer() as server:
        host = RabbitmqHost().start() if request.param == "rabbitmq" else None
        try:
            broker = host.url if host else server.url
            with coded_workers(broker, server.url):
                made = {
                    "own": module.make(pyworker, broker, server.url),
                    "stock": module.make(celery, broker, server.url),
                }
                yield made
                for each in made.values():
                    each.app.close()
        finally:
            if host:
                host.close()


@pytest.mark.parametrize(
    ("producer", "worker"),
    [
        (producer, worker)
        for producer in ("own", "stock")
        for worker in KINDS
        if (producer, worker) != ("stock", "stock")
    ],
)
def test_every_pair_arrives_and_its_result_comes_back(
    fleet: dict[str, SimpleNamespace], producer: str, worker: str
) -> None:
    client: Any = fleet[producer]
    text = "compressible " * 40
    sent = [
        client.echo.apply_async(
            (number, 2.5, text, [1, {"a": None}], True, 2**63), {"key": "väl"},
            serializer=serializer, compression=compression, queue=worker,
        )
        for number, (serializer, compression) in enumerate(PAIRS)
    ]  # fmt: skip
    for number, result in enumerate(sent):
        assert result.get(timeout=90) == [[number, 2.5, text, [1, {"a": None}], True, 2**63], {"key": "väl"}], PAIRS[
            number
        ]


@pytest.mark.parametrize("producer", ["own", "stock"])
def test_typed_values_keep_their_type(fleet: dict[str, SimpleNamespace], producer: str) -> None:
    """As JSON and as pickle; sets have no JSON form in kombu, so that they travel by pickle alone."""
    client: Any = fleet[producer]
    for worker in KINDS:
        for serializer, values in (("json", TYPED), ("pickle", (*TYPED, {1, 2}, datetime.timedelta(seconds=1)))):
            found = client.kinds.apply_async(values, serializer=serializer, queue=worker).get(timeout=90)
            assert found == [[type(value).__name__, repr(value)] for value in values], (worker, serializer)
