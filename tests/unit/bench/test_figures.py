"""Means, percentiles and ratios."""

from __future__ import annotations

import json

from pyworker.bench.figures import Figures, mean_and_deviation, numbers, percentile
from pyworker.bench.options import BenchOptions
from pyworker.bench.run import Outcome


def _figures(subject: str, drain_per_s: float | None, **more: object) -> Figures:
    return Figures(subject=subject, version="1", tasks=10, drain_per_s=drain_per_s, **more)  # type: ignore[arg-type]


def test_percentile_picks_from_the_values() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert percentile(values, 50) == 51.0
    assert percentile(values, 99) == 100.0
    assert percentile([3.0], 99) == 3.0


def test_mean_and_deviation_leaves_unmeasured_rounds_out() -> None:
    assert mean_and_deviation([_figures("a", 10.0), _figures("a", None), _figures("a", 14.0)], "drain_per_s") == (
        12.0,
        8**0.5,
    )
    assert mean_and_deviation([_figures("a", None)], "drain_per_s") is None


def test_outcome_gives_ratios_to_the_first_subject_and_survives_json() -> None:
    outcome = Outcome(
        options=BenchOptions(),
        machine={"cores": "2"},
        subjects={"ours": [_figures("ours", 900.0, problems=["one is wrong"])], "theirs": [_figures("theirs", 300.0)]},
    )
    assert outcome.ratio("drain_per_s", "theirs") == 3.0
    assert outcome.ratio("idle_p50_ms", "theirs") is None
    data = json.loads(json.dumps(outcome.as_dict()))
    assert data["ratios"]["theirs"] == {"drain_per_s": 3.0}
    assert data["problems"] == ["ours: one is wrong"]


def test_every_number_is_compared() -> None:
    assert {"drain_per_s", "enqueue_per_s", "cpu_s_per_1000", "idle_p50_ms", "peak_memory_mb"} <= set(numbers())
    assert "problems" not in numbers()
