"""``pyworker sqlite``: look at the file of the embedded broker, and keep it in order."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pyworker._native import NativeError
from pyworker.exceptions import ImproperlyConfigured, OperationalError
from pyworker.transport.sqlite_file import open_file
from pyworker.worker.sqlite_config import SqliteAddress

if TYPE_CHECKING:
    from pyworker._native import SqliteFile

#: Commands of people wait longer than programs.
_BUSY_TIMEOUT_S = 30.0

_file = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


def _open(path: Path) -> SqliteFile:
    if not path.exists():
        # Looking must not make a file.
        raise click.ClickException(f"{path}: no such file")
    try:
        return open_file(SqliteAddress(path=str(path.absolute()), busy_timeout_s=_BUSY_TIMEOUT_S), setting=str(path))
    except (ImproperlyConfigured, OperationalError) as error:
        raise click.ClickException(str(error)) from error


@click.group()
def sqlite() -> None:
    """Look at the SQLite file of a broker, or keep it in order; safe while workers run."""


@sqlite.command()
@_file
def queues(file: Path) -> None:
    """Show every queue: messages that wait, that are scheduled, and that workers hold."""
    opened = _open(file)
    click.echo(f"{'queue':40} {'waiting':>10} {'scheduled':>10} {'held':>10}")
    try:
        for name, ready, scheduled, held in opened.queues():
            click.echo(f"{name:40} {ready:>10} {scheduled:>10} {held:>10}")
    except NativeError as error:
        raise click.ClickException(str(error)) from error


@sqlite.command()
@_file
@click.argument("queue")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
def purge(file: Path, queue: str, force: bool) -> None:
    """Delete the messages of a queue that no worker holds."""
    opened = _open(file)
    if not force:
        click.confirm(f"Delete all waiting and scheduled messages of {queue!r} in {file}?", abort=True)
    try:
        click.echo(f"{opened.purge(queue)} messages deleted")
    except NativeError as error:
        raise click.ClickException(str(error)) from error


@sqlite.command()
@_file
def check(file: Path) -> None:
    """Read the whole file and say what is wrong with it; exit code 1 if anything is."""
    try:
        problems = _open(file).problems()
    except NativeError as error:
        raise click.ClickException(str(error)) from error
    for problem in problems:
        click.echo(problem)
    if problems:
        sys.exit(1)
    click.echo("ok")


@sqlite.command()
@_file
def vacuum(file: Path) -> None:
    """Delete what is past its time and give unused space back. Everybody else waits meanwhile."""
    opened = _open(file)
    before = os.path.getsize(file)
    try:
        while opened.tidy():
            pass
        opened.vacuum()
    except NativeError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{before} bytes before, {os.path.getsize(file)} now")
