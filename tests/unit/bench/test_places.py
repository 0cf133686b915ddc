"""Runs without a server: where each subject works, and what is read behind its back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import celery
import celery.signals
import pytest
from click.testing import CliRunner

from pyworker.bench import tally
from pyworker.bench.errors import BenchError
from pyworker.bench.peers.celery_protocol import CeleryClient, make_app
from pyworker.bench.places import ON_A_FILE, ONLY_ON_A_FILE, private_place, require_place
from pyworker.bench.settings import AppSettings
from pyworker.cli.bench import bench

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", sorted(ON_A_FILE))
def test_everything_of_a_private_place_is_in_its_folder(name: str, tmp_path: Path) -> None:
    place = private_place(str(tmp_path), name)
    assert str(tmp_path) in place.backend_url
    assert str(tmp_path) in place.broker_url + json.dumps(dict(place.transport_options))


def test_who_cannot_work_there_is_refused_by_name() -> None:
    with pytest.raises(BenchError, match="rq: has no SQLite broker"):
        require_place("rq", "sqlite")
    for name in ONLY_ON_A_FILE:
        with pytest.raises(BenchError, match=f"{name}: needs --broker sqlite"):
            require_place(name, "rabbitmq")
    for broker in (None, "redis://127.0.0.1/0"):
        with pytest.raises(BenchError, match="celery-confirmed: needs --broker rabbitmq"):
            require_place("celery-confirmed", broker)
    require_place("celery-confirmed", "amqp://127.0.0.1//")


def test_the_command_line_refuses_too() -> None:
    result = CliRunner().invoke(bench, ["--broker", "sqlite://", "--worker", "ideal"])
    assert result.exit_code == 1
    assert "ideal: has no SQLite broker" in result.output


def test_stock_transports_are_looked_behind_by_their_own_classes(tmp_path: Path) -> None:
    place = private_place(str(tmp_path), "celery-filesystem")
    record = tmp_path / "tally"
    tally.create(str(record), 10)
    settings = AppSettings(
        broker_url=place.broker_url,
        backend_url=place.backend_url,
        queue="bench",
        tally_path=str(record),
        tally_capacity=10,
        transport_options=dict(place.transport_options),
    )
    app = make_app(celery.Celery, celery.signals, settings)
    client = CeleryClient(app, celery.group, settings, "")
    client.send(0)
    client.preload(range(1, 4))
    assert client.leftovers() == 4
    assert client.stored(0, 4) == 0
    identifiers = []
    for path in sorted((tmp_path / "messages").iterdir()):
        message = json.loads(path.read_bytes())
        identifiers.append((message["headers"]["argsrepr"], message["headers"]["id"]))
    assert [arguments for arguments, _ in sorted(identifiers)] == ["(0,)", "(1,)", "(2,)", "(3,)"]
    right, wrong, failed = (identifier for _, identifier in sorted(identifiers)[:3])
    app.backend.store_result(right, 0, "SUCCESS")
    app.backend.store_result(wrong, 7, "SUCCESS")
    app.backend.store_result(failed, ValueError("as it should"), "FAILURE")
    assert client.stored(0, 4) == 3
    assert [problem.partition(":")[0] for problem in client.check(0, 4)] == ["task 1", "task 2", "task 3"]
    client.close()
    assert list((tmp_path / "messages").iterdir()) == []
