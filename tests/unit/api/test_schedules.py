"""Schedules: the same numbers and the same next runs as Celery's."""

from __future__ import annotations

import pickle
import random
from datetime import datetime, timedelta, timezone
from typing import Any

import celery.schedules
import pytest

from pyworker import Celery
from pyworker.exceptions import ImproperlyConfigured
from pyworker.schedules import ParseException, crontab, maybe_schedule, schedule, solar

ENTRIES: list[dict[str, Any]] = [
    {},
    {"minute": 0, "hour": 0},
    {"minute": 0, "hour": "*/3"},
    {"minute": 0, "hour": "0,3,6,9,12,15,18,21"},
    {"minute": "*/15"},
    {"day_of_week": "sunday"},
    {"minute": "*", "hour": "*", "day_of_week": "sun"},
    {"minute": "*/10", "hour": "3,17,22", "day_of_week": "thu,fri"},
    {"minute": 0, "hour": "*/2,*/3"},
    {"minute": 0, "hour": "*/5"},
    {"minute": 0, "hour": "*/3,8-17"},
    {"minute": 0, "hour": 0, "day_of_month": "2"},
    {"minute": 0, "hour": 0, "day_of_month": "2-30/2"},
    {"minute": 0, "hour": 0, "day_of_month": "1-7,15-21"},
    {"minute": 0, "hour": 0, "day_of_month": "11", "month_of_year": "5"},
    {"minute": 0, "hour": 0, "month_of_year": "*/3"},
    {"hour": 7, "minute": 30, "day_of_week": 1},
    {"day_of_week": "fri-mon", "hour": "22-4"},
    {"minute": [1, 5], "month_of_year": "jan-mar"},
    {"minute": 59, "hour": 23, "day_of_month": 29, "month_of_year": 2},
]


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_a_crontab_is_celerys(entry: dict[str, Any], randomness: random.Random) -> None:
    ours, stock = crontab(**entry), celery.schedules.crontab(**entry)
    for field in ("minute", "hour", "day_of_week", "day_of_month", "month_of_year"):
        assert getattr(ours, field) == getattr(stock, field)
    for _ in range(5):
        moment = datetime(2024, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=randomness.randrange(4 * 366 * 86400))
        ours.nowfun = stock.nowfun = lambda moment=moment: moment
        assert ours.remaining_estimate(moment) == stock.remaining_estimate(moment)
        last = moment - timedelta(days=3)
        assert ours.is_due(last)[0] == stock.is_due(last)[0]


def test_a_crontab_is_a_value() -> None:
    entry = crontab(minute="*/5", hour=[1, 2])
    assert entry == crontab("*/5", "1,2")
    assert entry != crontab("*/5")
    assert hash(entry) == hash(crontab("*/5", "1-2"))
    assert pickle.loads(pickle.dumps(entry)) == entry
    assert repr(entry) == "<crontab: */5 1,2 * * * (m/h/dM/MY/d)>"
    assert crontab.from_string("0 7 11 5 1-5") == crontab(0, 7, "mon-fri", 11, 5)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"minute": 60}, "minute: 60 must be from 0 to 59"),
        ({"hour": "25"}, "hour: '25' must be"),
        ({"day_of_month": 0}, "day_of_month: 0 must be"),
        ({"day_of_week": "someday"}, "day_of_week: 'someday' cannot be read"),
        ({"minute": "*/0"}, "the step of"),
        ({"minute": "1,,2"}, "minute: '' cannot be read"),
        ({"minute": []}, "minute: \\[\\] must be"),
    ],
)
def test_a_wrong_field_is_named(entry: dict[str, Any], text: str) -> None:
    with pytest.raises(ParseException, match=text):
        crontab(**entry)


def test_a_field_of_another_type_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="month_of_year: 1.5 is no number"):
        crontab(month_of_year=1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("interval_s", [0, 0.5, 1, 10, 59.999, 60, 90, 3600, 7200, 86_400, 200_000])
def test_intervals_read_as_celerys(interval_s: float) -> None:
    assert repr(schedule(interval_s)) == repr(celery.schedules.schedule(interval_s))


def test_a_crontab_that_never_comes_says_so() -> None:
    with pytest.raises(ImproperlyConfigured, match="never comes"):
        crontab(0, 0, day_of_month=30, month_of_year=2).next_after(datetime(2024, 1, 1, tzinfo=timezone.utc))
    with pytest.raises(ValueError, match="five fields"):
        crontab.from_string("* *")


def test_the_apps_time_zone_counts() -> None:
    app = Celery("zone", set_as_current=False, timezone="Asia/Tokyo")
    noon_utc = datetime(2024, 6, 1, 12, tzinfo=timezone.utc)
    entry = crontab(minute=0, hour=0, app=app, nowfun=lambda: noon_utc)
    assert entry.remaining_estimate(noon_utc) == timedelta(hours=3)


@pytest.mark.parametrize(("every", "relative"), [(10, False), (timedelta(hours=1), True), (timedelta(days=2), True)])
def test_an_interval_is_celerys(every: Any, relative: bool) -> None:
    now = datetime(2024, 6, 1, 12, 34, 56, tzinfo=timezone.utc)
    sides = [kind(every, relative=relative, nowfun=lambda: now) for kind in (schedule, celery.schedules.schedule)]
    for ago in (timedelta(seconds=3), timedelta(hours=2), timedelta(days=5)):
        ours, stock = (side.is_due(now - ago) for side in sides)
        assert ours[0] == stock[0]
        assert ours[1] == pytest.approx(stock[1])


def test_schedules_are_made_of_numbers() -> None:
    assert maybe_schedule(5) == schedule(timedelta(seconds=5))
    entry = crontab()
    assert maybe_schedule(entry) is entry
    with pytest.raises(ImproperlyConfigured, match="solar"):
        solar("sunset", 1, 2)
