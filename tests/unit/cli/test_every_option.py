"""Every option and argument of every command and sub-command beside those of the installed ``celery``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import pytest
from celery.bin.celery import celery as stock

from pyworker.cli.main import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Not built: refused with the reason (``test_command_line.py``).
_NOT_HERE = frozenset({"beat"})
#: Our group itself appears as a plug-in of Celery's.
_OURS = frozenset({"pyworker"})


def _commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))


def _parameters(command: click.Command) -> dict[str, Any]:
    """By spelling: what an option or an argument takes."""
    found: dict[str, Any] = {}
    for param in command.params:
        takes = {"nargs": param.nargs, "multiple": getattr(param, "multiple", False)}
        if isinstance(param, click.Option):
            takes |= {"is_flag": param.is_flag}
            found |= dict.fromkeys((*param.opts, *param.secondary_opts), takes)
        else:
            found[f"argument {len(found)}"] = takes
    return found


THEIRS = {path: command for path, command in _commands(stock) if path[0] not in _NOT_HERE | _OURS}
OURS = dict(_commands(cli))


@pytest.mark.parametrize("path", THEIRS, ids=" ".join)
def test_command_takes_whatever_celerys_takes(path: tuple[str, ...]) -> None:
    theirs, ours = _parameters(THEIRS[path]), _parameters(OURS[path])
    assert {name: ours.get(name, "missing") for name in theirs} == theirs


@pytest.mark.parametrize("path", OURS, ids=" ".join)
def test_every_option_is_explained(path: tuple[str, ...]) -> None:
    command = OURS[path]
    assert command.help
    assert [param.name for param in command.params if isinstance(param, click.Option) and not param.help] == []
