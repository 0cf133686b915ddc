"""When periodic tasks are due: intervals and crontab entries, as values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any, NamedTuple, NoReturn

from pyworker.cron_fields import DAYS_OF_MONTH, DAYS_OF_WEEK, HOURS, MINUTES, MONTHS, Field
from pyworker.current import find_current_app
from pyworker.exceptions import ImproperlyConfigured

__all__ = ["ParseException", "crontab", "maybe_schedule", "schedstate", "schedule", "solar"]

#: Entries such as 30 February never come: the search ends after a whole cycle of leap years.
_SEARCHED_DAYS = 366 * 8 + 3
_UNITS_S = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))


class ParseException(ValueError):
    """A crontab field that cannot be read; raised as the base of what :class:`crontab` raises."""


class schedstate(NamedTuple):
    """Whether something is due, and the seconds until to look again."""

    is_due: bool
    next: float


class _Clocked:
    """What all schedules have: a clock in the app's time zone."""

    def __init__(self, nowfun: Callable[[], datetime] | None = None, app: Any = None) -> None:
        self.nowfun = nowfun
        self._app = app

    @property
    def app(self) -> Any:
        """The app, the current one if none was given."""
        return self._app if self._app is not None else find_current_app()

    @property
    def tz(self) -> tzinfo:
        """The app's time zone; UTC without an app."""
        app = self.app
        found: tzinfo = app.timezone if app is not None else timezone.utc
        return found

    def now(self) -> datetime:
        """Return the present time."""
        return (self.nowfun or (lambda: datetime.now(timezone.utc)))()

    def _in_zone(self, moment: datetime) -> datetime:
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).astimezone(self.tz)

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """Return how long it is until the next run after ``last_run_at``."""
        raise NotImplementedError

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Return whether a run is due, and in how many seconds to ask again."""
        left_s = max(0.0, self.remaining_estimate(last_run_at).total_seconds())
        if left_s == 0:
            return schedstate(True, max(0.0, self.remaining_estimate(self.now()).total_seconds()))
        return schedstate(False, left_s)


class schedule(_Clocked):
    """Every so often.

    Args:
        run_every: the interval, in seconds or as a ``timedelta``.
        relative: whether runs are rounded to the interval's own unit.
        nowfun: another clock.
        app: whose time zone counts.
    """

    def __init__(
        self,
        run_every: float | timedelta | None = None,
        relative: bool = False,
        nowfun: Callable[[], datetime] | None = None,
        app: Any = None,
    ) -> None:
        super().__init__(nowfun, app)
        if run_every is None:
            raise TypeError("schedule() needs run_every")
        self.run_every = run_every if isinstance(run_every, timedelta) else timedelta(seconds=run_every)
        self.relative = relative

    @property
    def seconds(self) -> float:
        """The interval in seconds."""
        return max(self.run_every.total_seconds(), 0)

    @property
    def human_seconds(self) -> str:
        """The interval for people, such as ``5.00 minutes``."""
        for unit, length_s in _UNITS_S:
            count = round(self.seconds, 2) / length_s
            if count >= 1:
                return f"{count:.2f} {unit}{'' if count == 1 else 's'}"
        return "now"

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """Return how long it is until the next run after ``last_run_at``."""
        due = self._in_zone(last_run_at) + self.run_every
        return (self._rounded(due) if self.relative else due) - self._in_zone(self.now())

    def _rounded(self, moment: datetime) -> datetime:
        """Cut what is smaller than the interval's unit."""
        interval = self.run_every
        if interval.days:
            return moment.replace(hour=0, minute=0, second=0, microsecond=0)
        if interval.seconds >= 3600:
            return moment.replace(minute=0, second=0, microsecond=0)
        return moment.replace(second=0, microsecond=0) if interval.seconds >= 60 else moment

    def __eq__(self, other: object) -> bool:
        return self.run_every == getattr(other, "run_every", other)

    def __hash__(self) -> int:
        return hash(self.run_every)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.run_every, self.relative, self.nowfun)

    def __repr__(self) -> str:
        return f"<freq: {self.human_seconds}>"


#: What a crontab field may be given as.
CronValue = str | int | Iterable[int]


class crontab(_Clocked):
    """At minutes that all five fields name, as in a crontab.

    Each field is a number, an iterable of numbers, or a text: ``*``, ``*/5``, ``1-7``, ``2-30/2``, ``mon-fri``, or
    several of these with commas.

    Args:
        minute: 0 to 59.
        hour: 0 to 23.
        day_of_week: 0 (Sunday) to 6, 7 is Sunday too, or names.
        day_of_month: 1 to 31.
        month_of_year: 1 to 12, or names.
        nowfun: another clock.
        app: whose time zone counts.

    Raises:
        ValueError: a field cannot be read or is out of range; names it.
    """

    def __init__(
        self,
        minute: CronValue = "*",
        hour: CronValue = "*",
        day_of_week: CronValue = "*",
        day_of_month: CronValue = "*",
        month_of_year: CronValue = "*",
        *,
        nowfun: Callable[[], datetime] | None = None,
        app: Any = None,
        **_other: Any,
    ) -> None:
        super().__init__(nowfun, app)
        self._orig_minute, self._orig_hour, self._orig_day_of_week = minute, hour, day_of_week
        self._orig_day_of_month, self._orig_month_of_year = day_of_month, month_of_year
        self.minute = _numbers(MINUTES, minute)
        self.hour = _numbers(HOURS, hour)
        self.day_of_week = _numbers(DAYS_OF_WEEK, day_of_week)
        self.day_of_month = _numbers(DAYS_OF_MONTH, day_of_month)
        self.month_of_year = _numbers(MONTHS, month_of_year)

    @classmethod
    def from_string(cls, crontab: str) -> Any:
        """Read a crontab line: minute, hour, day of month, month, day of week.

        Raises:
            ValueError: it has not five fields, or one cannot be read.
        """
        fields = crontab.split()
        if len(fields) != 5:
            raise ValueError(f"a crontab has five fields, not {len(fields)}: {crontab!r}")
        minute, hour, day_of_month, month_of_year, day_of_week = fields
        return cls(minute, hour, day_of_week, day_of_month, month_of_year)

    def next_after(self, moment: datetime) -> datetime:
        """Return the first minute after a moment that the entry names, in the moment's time zone.

        Raises:
            ImproperlyConfigured: there is none, as for 30 February.
        """
        start = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
        day = start.replace(hour=0, minute=0)
        for _ in range(_SEARCHED_DAYS):
            if self._names_day(day):
                earliest = (start.hour, start.minute) if day.date() == start.date() else (0, 0)
                found = next((t for t in self._times() if t >= earliest), None)
                if found is not None:
                    return day.replace(hour=found[0], minute=found[1])
            day += timedelta(days=1)
        raise ImproperlyConfigured(f"{self!r} never comes")

    def _names_day(self, day: datetime) -> bool:
        return (
            day.month in self.month_of_year
            and day.day in self.day_of_month
            and day.isoweekday() % 7 in self.day_of_week
        )

    def _times(self) -> Iterable[tuple[int, int]]:
        return ((hour, minute) for hour in sorted(self.hour) for minute in sorted(self.minute))

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """Return how long it is until the next run after ``last_run_at``."""
        return self.next_after(self._in_zone(last_run_at)) - self._in_zone(self.now())

    def _original(self) -> tuple[Any, ...]:
        return (
            self._orig_minute, self._orig_hour, self._orig_day_of_week, self._orig_day_of_month,
            self._orig_month_of_year,
        )  # fmt: skip

    def _fields(self) -> tuple[set[int], ...]:
        return self.minute, self.hour, self.day_of_week, self.day_of_month, self.month_of_year

    def __eq__(self, other: object) -> bool:
        return isinstance(other, crontab) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(tuple(frozenset(field) for field in self._fields()))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._original()

    def __repr__(self) -> str:
        minute, hour, day_of_week, day_of_month, month_of_year = map(_written, self._original())
        return f"<crontab: {minute} {hour} {day_of_month} {month_of_year} {day_of_week} (m/h/dM/MY/d)>"


class solar:
    """At sunrise, dusk and the like: refused until there is a scheduler that could use it."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise ImproperlyConfigured("solar schedules are not supported: pyworker has no scheduler that runs them yet")


def maybe_schedule(given: Any, relative: bool = False, app: Any = None) -> Any:
    """Return a schedule; seconds and ``timedelta`` become one."""
    if isinstance(given, (int, float, timedelta)):
        return schedule(given, relative=relative, app=app)
    if isinstance(given, _Clocked):
        given._app = app
    return given


def _numbers(field: Field, value: Any) -> set[int]:
    try:
        return field.numbers(value)
    except ValueError as error:
        raise ParseException(str(error)) from error


def _written(value: Any) -> str:
    return value if isinstance(value, str) else ",".join(map(str, value)) if isinstance(value, Iterable) else str(value)
