"""A Django project with sentry-sdk, OpenTelemetry and django-celery-results: what is seen equals the stock worker's."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from support.kinds import FAST, KINDS, STOCK, Kind
from support.redis_server import RedisServer
from support.worker import APPS, WorkerProcess, worker_environment

if TYPE_CHECKING:
    from pathlib import Path

BACKENDS = ("django-db", "redis")


@dataclass
class Seen:
    """Everything one run of the scenario left behind."""

    outcomes: dict[str, Any] = field(default_factory=dict)
    rows: list[Any] = field(default_factory=list)
    observations: list[dict[str, Any]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [entry for entry in self.observations if entry["kind"] == kind]


def run_scenario(kind: Kind, backend: str, folder: Path) -> Seen:
    """Run the shop's producer against a worker of this kind and collect what both left behind."""
    with RedisServer() as server:
        extra = {
            "TEST_DATABASE": str(folder / "shop.sqlite3"),
            "TEST_OBSERVATIONS": str(folder / "observations.jsonl"),
            "TEST_SHOP_BACKEND": backend if backend == "django-db" else server.url,
            "DJANGO_SETTINGS_MODULE": "shop.settings",
        }
        environment = worker_environment(broker=server.url, backend=server.url, lane="producer", extra=extra)
        command = [sys.executable, "-m", "django", "migrate", "-v", "0"]
        subprocess.run(command, check=True, env=environment, cwd=APPS, timeout=120)
        worker = WorkerProcess(kind, "shop", broker=server.url, options=("-c", "1"), environment=extra)
        try:
            worker.start()
            done = subprocess.run(
                [sys.executable, "-m", "shop.produce"],
                env=environment,
                cwd=APPS,
                timeout=120,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr + worker.log
            assert worker.stop() == 0
            produced = json.loads(done.stdout)
            observations = [json.loads(line) for line in (folder / "observations.jsonl").read_text().splitlines()]
            return Seen(produced["outcomes"], produced["rows"], observations, worker.lines)
        finally:
            worker.close()


@pytest.fixture(scope="module", params=BACKENDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Seen, Seen]:
    """The same scenario seen with the stock worker and with ours."""
    asked = request.config.getoption("--kinds")
    ours = KINDS[asked.split(",")[0]] if asked else FAST
    return tuple(  # type: ignore[return-value]
        run_scenario(kind, request.param, tmp_path_factory.mktemp(kind.name)) for kind in (STOCK, ours)
    )


def test_results_are_equal(pair: tuple[Seen, Seen]) -> None:
    stock, ours = pair
    assert ours.outcomes == stock.outcomes
    assert ours.outcomes["add"] == 5
    assert ours.outcomes["fail"] == "ValueError('boom')"
    assert ours.outcomes["retry"] == "second time"
    assert ours.outcomes["register"] == 1
    assert ours.outcomes["chain"] == 12


def test_rows_in_the_database_are_equal(pair: tuple[Seen, Seen]) -> None:
    stock, ours = pair
    assert ours.rows == stock.rows


def test_spans_are_equal(pair: tuple[Seen, Seen]) -> None:
    stock, ours = pair

    def shape(seen: Seen) -> list[Any]:
        volatile = re.compile(r"(id|hostname|origin|pid|correlation|reply_to|delivery_info|net\.|messaging\.message)")
        return sorted(
            [
                span["name"],
                span["span_kind"],
                span["status"],
                span["events"],
                span["has_parent"],
                sorted(span["attributes"]),
                sorted((k, str(v)) for k, v in span["attributes"].items() if not volatile.search(k)),
            ]
            for span in seen.of("span")
        )

    assert shape(ours) == shape(stock)
    assert any(name == "run/shop.orders.tasks.add" for name, *_ in shape(ours))
    consumed = [span for span in ours.of("span") if span["span_kind"] == "CONSUMER"]
    published = {span["trace"] for span in ours.of("span") if span["span_kind"] == "PRODUCER"}
    assert consumed
    assert {span["trace"] for span in consumed} <= published


def test_transactions_and_errors_of_sentry_are_equal(pair: tuple[Seen, Seen]) -> None:
    stock, ours = pair

    def shape(seen: Seen, kind: str) -> Counter[str]:
        kept: Counter[str] = Counter()
        for entry in seen.of(kind):
            shown = {key: value for key, value in entry.items() if key != "process"}
            if "spans" in shown:
                # redis-py's calls: the engine writes results by itself, so their number is no promise.
                shown["spans"] = [operation for operation in shown["spans"] if operation != "db.redis"]
            kept[json.dumps(shown, sort_keys=True)] += 1
        return kept

    assert shape(ours, "transaction") == shape(stock, "transaction")
    assert shape(ours, "error") == shape(stock, "error")
    assert any(["ValueError", "boom"] in entry["exceptions"] for entry in ours.of("error"))


def test_signals_are_equal_in_order(pair: tuple[Seen, Seen]) -> None:
    stock, ours = pair

    def shape(seen: Seen, *, is_main: bool) -> list[Any]:
        return [
            [entry["name"], entry["sender"], entry["keys"]]
            for entry in seen.of("signal")
            if (entry["name"] == "task_received") == is_main
        ]

    for is_main in (True, False):
        assert shape(ours, is_main=is_main) == shape(stock, is_main=is_main)
    assert len(shape(ours, is_main=True)) >= 9


def test_log_lines_are_equal(pair: tuple[Seen, Seen]) -> None:
    stock, ours = pair

    def shape(seen: Seen) -> Counter[str]:
        kept: Counter[str] = Counter()
        for line in seen.lines:
            if not re.match(r"\[\d{4}-\d\d-\d\d ", line) or "mingle" in line:
                continue
            text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", line)
            text = re.sub(r"^\[[\d-]+ [\d:,]+: ", "[", text)
            text = re.sub(r"\d+\.\d+(e-\d+)?s", "TIMEs", text)
            text = re.sub(r"127\.0\.0\.1:\d+", "SERVER", text)
            text = re.sub(r":\*\*@", "", text)
            kept[text] += 1
        return kept

    assert shape(ours) == shape(stock)
