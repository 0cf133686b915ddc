"""``result``: what a task returned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pyworker.cli.commands import AppCommand, option_group

if TYPE_CHECKING:
    from pyworker.cli.context import CliContext

_option = option_group("Result Options")


@click.command(cls=AppCommand)
@click.argument("task_id")
@_option("-t", "--task", help="Name of the task, if it has a result store of its own.")
@_option("--traceback", is_flag=True, help="Print the traceback instead.")
@click.pass_context
def result(ctx: click.Context, /, task_id: str, task: str | None, traceback: bool) -> None:
    """Wait for the result of TASK_ID and print it; fails as the task failed."""
    context: CliContext = ctx.obj
    app = context.app
    if task:
        context.operations().load_tasks()
        if task not in app.tasks:
            raise click.UsageError(f"There is no task {task}")
    found = (app.tasks[task].AsyncResult if task else app.AsyncResult)(task_id)
    context.echo(found.traceback if traceback else found.get())
