"""``report``: what belongs into a bug report."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

import click

from pyworker.cli.commands import AppCommand

if TYPE_CHECKING:
    from pyworker.cli.context import CliContext


@click.command(cls=AppCommand)
@click.pass_context
def report(ctx: click.Context, /) -> None:
    """Print versions, platform and settings for a bug report; secrets are left out."""
    context: CliContext = ctx.obj
    operations = context.operations()
    operations.load_tasks()
    context.echo(f"\nworker   -> pyworker:{version('pyworker')}{operations.report()}")
