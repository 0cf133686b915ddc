"""The scenarios of ``make bench`` and what is written from their results."""

from __future__ import annotations

import json
import shlex
import xml.etree.ElementTree
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from bench import older_redis, render
from bench.plot import bar_chart
from bench.scenarios import SCENARIOS, Scenario
from pyworker.bench.figures import Figures
from pyworker.bench.run import Outcome
from pyworker.cli.bench import bench

if TYPE_CHECKING:
    from pathlib import Path

    from pyworker.bench.options import BenchOptions


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[BenchOptions]:
    """What the command line is asked for, which measures nothing."""
    asked: list[BenchOptions] = []

    def record(options: BenchOptions, _reporter: object) -> Outcome:
        asked.append(options)
        subject = Figures(subject="x", version="1", tasks=1)
        return Outcome(options=options, machine={}, subjects={"x": [subject]})

    monkeypatch.setattr("pyworker.cli.bench.run", record)
    return asked


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_printed_command_repeats_the_scenario(scenario: Scenario, asked: list[BenchOptions]) -> None:
    words = shlex.split(scenario.command())
    result = CliRunner().invoke(bench, words[2:])
    assert result.exit_code == 0, result.output
    assert asked == [scenario.options]


@pytest.mark.parametrize(
    ("scenario", "peer"),
    [(scenario, peer) for scenario in SCENARIOS for peer in scenario.older_redis],
    ids=lambda value: value.name if isinstance(value, Scenario) else value,
)
def test_peer_with_an_older_redis_py_is_measured_like_the_others(
    scenario: Scenario, peer: str, asked: list[BenchOptions]
) -> None:
    words = shlex.split(older_redis.command(scenario, peer))
    result = CliRunner().invoke(bench, words[3:])
    assert result.exit_code == 0, result.output
    compared = scenario.options.for_compared()
    (options,) = asked
    assert options == replace(compared, worker=peer, app_kind="celery", compare=(), compare_tasks=None)
    assert older_redis.command(scenario, "saq") in scenario.text


def test_chart_is_xml_with_a_bar_for_each_value() -> None:
    chart = bar_chart("a & b", [("one", [("x", 10.0), ("y", 1000.0)]), ("two", [("x", 50.0)])])
    root = xml.etree.ElementTree.fromstring(chart)
    bars = [item for item in root.iter("{http://www.w3.org/2000/svg}rect") if item.get("x")]
    assert len(bars) == 3
    widths = [float(item.get("width", "0")) for item in bars]
    assert widths[0] < widths[2] < widths[1]


def test_page_shows_figures_ratios_and_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    scenario = SCENARIOS[0]
    outcome = Outcome(
        options=scenario.options,
        machine={"cores": "2"},
        subjects={
            "pyworker": [Figures(subject="pyworker", version="1", tasks=9, drain_per_s=40_000.0, problems=["bad"])],
            "celery": [Figures(subject="celery", version="5", tasks=9, drain_per_s=1000.0)],
        },
    )
    data = {**outcome.as_dict(), "command": scenario.command(), "method": "as it was"}
    (tmp_path / f"{scenario.name}.json").write_text(json.dumps(data))
    monkeypatch.setattr(render, "_DOCS", tmp_path)
    render.write_page(tmp_path)
    page = (tmp_path / "benchmarks.md").read_text()
    assert "| drain, tasks/s | 40,000 | 1,000 | 40.00 |" in page
    assert "**PROBLEM** pyworker: bad" in page
    assert scenario.command() in page
    assert (tmp_path / "benchmarks-drain.svg").exists()
