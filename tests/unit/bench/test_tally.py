"""The shared record of which task ran when."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from pyworker.bench.tally import Tally, create

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def tally(tmp_path: Path) -> Iterator[Tally]:
    path = str(tmp_path / "tally")
    create(path, 100)
    opened = Tally(path, 100)
    yield opened
    opened.close()


def test_new_tally_misses_every_task(tally: Tally) -> None:
    assert tally.executed(0, 100) == 0
    assert tally.missing(0, 3) == [0, 1, 2]
    assert tally.repeated(0, 100) == []


def test_record_counts_and_stamps_a_task(tally: Tally) -> None:
    before = time.monotonic()
    tally.record(7)
    assert tally.executed(0, 100) == 1
    assert tally.executed(8, 100) == 0
    assert before <= tally.starts(7, 8)[0] <= time.monotonic()


def test_repeated_names_tasks_that_ran_twice(tally: Tally) -> None:
    for index in (3, 5, 5, 99, 99, 99):
        tally.record(index)
    assert tally.repeated(0, 100) == [5, 99]
    assert tally.missing(2, 6) == [2, 4]


def test_count_does_not_wrap_around(tally: Tally) -> None:
    for _time in range(300):
        tally.record(0)
    assert tally.repeated(0, 1) == [0]


def test_records_of_another_process_are_seen(tmp_path: Path) -> None:
    path = str(tmp_path / "tally")
    create(path, 10)
    reader = Tally(path, 10)
    child = os.fork()
    if child == 0:
        Tally(path, 10).record(4)
        os._exit(0)
    os.waitpid(child, 0)
    assert reader.executed(0, 10) == 1
    assert reader.missing(4, 5) == []
    reader.close()
