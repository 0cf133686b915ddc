"""What the bench's own record costs a task: it must stay far below what is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyworker.bench.tally import Tally, create

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture


def bench_tally_record(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    path = str(tmp_path / "tally")
    create(path, 10)
    tally = Tally(path, 10)
    benchmark(tally.record, 3)
    assert tally.executed(0, 10) == 1
    tally.close()
