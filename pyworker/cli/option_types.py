"""Option kinds and parameter types of the command line, with Celery's spelling and limits."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pyworker.worker.cpu_budget import usable_cpus
from pyworker.worker.node_name import default_node_name, expand_host

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    ParameterType = click.ParamType[Any]
    LevelChoice = click.Choice[str]
else:
    # Generic only in newer releases of click.
    ParameterType = click.ParamType
    LevelChoice = click.Choice

#: What a decorator of a command gives back unchanged.
Function = TypeVar("Function", bound=Callable[..., Any])


class GroupedOption(click.Option):
    """An option that knows under which heading ``--help`` lists it."""

    def __init__(self, *args: Any, help_group: str = "Options", **kwargs: Any) -> None:
        self.help_group = help_group
        super().__init__(*args, **kwargs)


class GroupedCommand(click.Command):
    """A command whose ``--help`` lists options under their headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, group by group in the order of declaration."""
        write_groups(self.get_params(ctx), ctx, formatter)


def write_groups(params: Sequence[click.Parameter], ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Write options under their headings."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for param in params:
        record = param.get_help_record(ctx)
        if record is not None:
            groups.setdefault(getattr(param, "help_group", "Options"), []).append(record)
    for heading, records in groups.items():
        with formatter.section(heading):
            formatter.write_dl(records)


class PoolBounds(ParameterType):
    """The pool's largest and smallest size in either order, or the largest alone; becomes ``max,min``."""

    name = "max,min"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read one or two integers."""
        try:
            sizes = sorted((int(size) for size in str(value).split(",")), reverse=True)
        except ValueError:
            sizes = []
        if len(sizes) not in (1, 2) or sizes[0] < 1 or sizes[-1] < 0:
            self.fail(f"{value!r} is not one or two whole numbers, as in 10,3", param, ctx)
        return f"{sizes[0]},{sizes[1] if len(sizes) == 2 else 0}"


class CommaSeparated(ParameterType):
    """Names separated by commas."""

    name = "comma separated list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Split text; sequences pass."""
        if isinstance(value, str):
            return tuple(value.split(","))
        return tuple(value)


class LogLevel(LevelChoice):
    """A level of logging by name in any case, or a number from a caller in Python."""

    LEVELS: Mapping[str, int] = {
        "DEBUG": logging.DEBUG,
        "INFO": logging.INFO,
        "WARNING": logging.WARNING,
        "ERROR": logging.ERROR,
        "CRITICAL": logging.CRITICAL,
        "FATAL": logging.FATAL,
    }

    def __init__(self) -> None:
        super().__init__(tuple(self.LEVELS))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The level's number."""
        if isinstance(value, int):
            return value
        return self.LEVELS[super().convert(value.upper(), param, ctx)]


class Hostname(ParameterType):
    """A node name; missing halves are filled in and abbreviations expanded."""

    name = "hostname"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The complete node name."""
        try:
            return expand_host(default_node_name(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Concurrency(ParameterType):
    """A number of children, ``auto``, or 0 for the setting."""

    name = "concurrency"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """The number, ``None`` if the setting decides."""
        if isinstance(value, str) and value.strip().lower() == "auto":
            return usable_cpus()
        try:
            count = int(value)
        except (TypeError, ValueError):
            count = -1
        if count < 0:
            self.fail(f"must be a non-negative integer or 'auto', got {value!r}", param, ctx)
        return count or None


class NotNegative(ParameterType):
    """A number, zero or more; zero usually means no limit."""

    def __init__(self, number: type[int] | type[float]) -> None:
        self._number = number
        self.name = "integer" if number is int else "float"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | float:
        """The number, if it is one and in range."""
        try:
            number = self._number(value)
        except (TypeError, ValueError):
            self.fail(f"{value!r} is not a valid {self.name}.", param, ctx)
        if not 0 <= number < float("inf"):
            self.fail(f"{value!r} is out of range: zero or more is expected.", param, ctx)
        return number


class Json(ParameterType):
    """A JSON document of one type."""

    def __init__(self, kind: type[list[Any]] | type[dict[str, Any]]) -> None:
        self._kind = kind
        self.name = "json array" if kind is list else "json object"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The document."""
        if isinstance(value, self._kind):
            return value
        try:
            document = json.loads(value)
        except ValueError as error:
            self.fail(f"{value!r} is not JSON: {error}", param, ctx)
        if not isinstance(document, self._kind):
            self.fail(f"{value} was not an {self.name.removeprefix('json ')}", param, ctx)
        return document


class Moment(ParameterType):
    """A date and time in ISO 8601.

    Args:
        or_seconds: whether a number of seconds will do as well.
    """

    def __init__(self, *, or_seconds: bool = False) -> None:
        self._or_seconds = or_seconds
        self.name = "iso-8601 or float" if or_seconds else "iso-8601"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime | float:
        """The moment, or the seconds."""
        if isinstance(value, datetime):
            return value
        if self._or_seconds:
            try:
                return float(value)
            except ValueError:
                pass
        try:
            # The letter for UTC is understood from Python 3.11 on only.
            return datetime.fromisoformat(value[:-1] + "+00:00" if value[-1:] in "zZ" else value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


POOL_BOUNDS = PoolBounds()
COMMA_SEPARATED = CommaSeparated()
JSON_ARRAY = Json(list)
JSON_OBJECT = Json(dict)
MOMENT = Moment()
MOMENT_OR_SECONDS = Moment(or_seconds=True)
LOG_LEVEL = LogLevel()
HOSTNAME = Hostname()
CONCURRENCY = Concurrency()
COUNT = NotNegative(int)
SECONDS = NotNegative(float)
