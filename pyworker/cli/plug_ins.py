"""Commands that other packages add, by the entry points ``celery.commands`` and ``pyworker.commands``."""

from __future__ import annotations

import traceback
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

#: A later group wins over an earlier one.
_GROUPS = ("celery.commands", "pyworker.commands")
#: Ours in Celery's own command line; it would be ``pyworker pyworker`` here.
_OURS = "pyworker"


@lru_cache(maxsize=1)
def plug_ins() -> Mapping[str, EntryPoint]:
    """The entry points by command name; nothing is imported."""
    found = {entry.name: entry for group in _GROUPS for entry in entry_points(group=group)}
    found.pop(_OURS, None)
    return found


def load_plug_in(entry: EntryPoint) -> click.Command:
    """The command of an entry point; one that cannot be imported is a command that shows why."""
    try:
        command = entry.load()
    except Exception:
        return _broken(entry.name, traceback.format_exc())
    if not isinstance(command, click.Command):
        return _broken(entry.name, f"{entry.value} is {command!r}, not a command of click")
    return command


def _broken(name: str, reason: str) -> click.Command:
    def fail() -> None:
        raise click.ClickException(f"The command {name} of another package cannot be loaded:\n{reason}")

    return click.Command(
        name,
        callback=fail,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
        help=f"Cannot be loaded; run `pyworker {name}` to see why.",
        short_help="Cannot be loaded.",
    )
