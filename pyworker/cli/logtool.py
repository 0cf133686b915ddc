"""``logtool``: what a worker's log says about its tasks."""

from __future__ import annotations

import re
from collections import Counter
from fileinput import FileInput
from typing import TYPE_CHECKING

import click

from pyworker.cli.commands import AppCommand, AppGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyworker.cli.context import CliContext

_ENTRY = re.compile(r"^\[\d{4}-\d\d-\d\d ")
#: Older workers said "Received task:", newer ones say "Task ... received".
_RECEIVED = re.compile(r"\] (?:Received task: |Task )(?P<name>[\w.]+)\[(?P<id>[^\]]+)\]\s*(?:received)?\s*$")
_ENDED = re.compile(r"\] Task (?:handler raised error: )?(?P<name>[\w.]+)\[(?P<id>[^\]]+)\]:? (?P<how>.+)$")


class Audit:
    """Reads log lines and keeps count.

    Args:
        on_error: told the line of every task that did not succeed.
        on_trace: told what follows an entry without being one, with the entry.
        on_other: told every entry that is about no task.
    """

    def __init__(
        self,
        *,
        on_error: Callable[[str], object] | None = None,
        on_trace: Callable[[str], object] | None = None,
        on_other: Callable[[str], object] | None = None,
    ) -> None:
        self.received: dict[str, str] = {}
        self.ended: dict[str, str] = {}
        self.errors = 0
        self._on_error, self._on_trace, self._on_other = on_error, on_trace, on_other
        self._entry: str | None = None

    def read(self, files: Sequence[str]) -> Audit:
        """Read files, standard input without any; returns itself."""
        with FileInput(files) as lines:
            for line in lines:
                self.feed(line.rstrip("\n"))
        return self

    def feed(self, line: str) -> None:
        """Take one line."""
        if not _ENTRY.match(line):
            if self._on_trace is not None:
                self._on_trace(line if self._entry is None else f"{self._entry}\n{line}")
            self._entry = None
            return
        self._entry = line
        received = _RECEIVED.search(line)
        ended = None if received else _ENDED.search(line)
        if received:
            self.received[received["id"]] = received["name"]
        elif ended:
            self._end(ended["id"], ended["how"], line)
        elif self._on_other is not None:
            self._on_other(line)

    def _end(self, task_id: str, how: str, line: str) -> None:
        if how.startswith("retry"):
            return  # it will end later
        self.ended[task_id] = how
        if not how.startswith("succeeded"):
            self.errors += 1
            if self._on_error is not None:
                self._on_error(line)

    def incomplete(self) -> list[str]:
        """Ids received that did not end."""
        return [task_id for task_id in self.received if task_id not in self.ended]

    def report(self) -> str:
        """The figures as text."""
        kinds = "\n".join(f"{name}: {number}" for name, number in Counter(self.received.values()).most_common())
        return (
            f"\nReport\n======\nTask total: {len(self.received)}\nTask errors: {self.errors}\n"
            f"Task success: {len(self.ended) - self.errors}\nTask completed: {len(self.ended)}\n"
            f"Tasks\n=====\n{kinds}\n"
        )


@click.group(cls=AppGroup)
def logtool() -> None:
    """Read a worker's log."""


_files = click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, allow_dash=True))


@logtool.command(cls=AppCommand)
@_files
@click.pass_context
def stats(ctx: click.Context, /, files: Sequence[str]) -> None:
    """Count tasks received, ended and failed, by name."""
    context: CliContext = ctx.obj
    context.echo(Audit().read(files).report())


@logtool.command(cls=AppCommand)
@_files
@click.pass_context
def traces(ctx: click.Context, /, files: Sequence[str]) -> None:
    """Show what follows entries: tracebacks."""
    Audit(on_trace=ctx.obj.echo).read(files)


@logtool.command(cls=AppCommand)
@_files
@click.pass_context
def errors(ctx: click.Context, /, files: Sequence[str]) -> None:
    """Show the entries of tasks that did not succeed."""
    Audit(on_error=ctx.obj.echo).read(files)


@logtool.command(cls=AppCommand)
@_files
@click.pass_context
def incomplete(ctx: click.Context, /, files: Sequence[str]) -> None:
    """Show the ids of tasks that did not end."""
    for task_id in Audit().read(files).incomplete():
        ctx.obj.echo(f"Did not complete: {task_id}")


@logtool.command(cls=AppCommand)
@_files
@click.pass_context
def debug(ctx: click.Context, /, files: Sequence[str]) -> None:
    """Show the entries that are about no task."""
    Audit(on_other=ctx.obj.echo).read(files)
