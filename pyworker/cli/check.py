"""``pyworker check``: which lane every task is in, and why. Starts nothing and connects to nothing."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from pyworker.cli.option_types import GroupedCommand

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyworker.cli.context import CliContext
    from pyworker.worker.protocol import TaskSpec


@click.command(cls=GroupedCommand)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@click.pass_context
def check(ctx: click.Context, /, as_json: bool) -> None:
    """Show every task's lane and the reasons."""
    context: CliContext = ctx.obj
    tasks = sorted(context.worker_app().tasks(), key=lambda task: task.name)
    if as_json:
        click.echo(json.dumps({"tasks": [_as_dict(task) for task in tasks]}, indent=2))
    else:
        _print_table(tasks, no_color=context.no_color)


def _as_dict(task: TaskSpec) -> dict[str, Any]:
    return {
        "name": task.name,
        "lane": task.lane.name.lower(),
        "reasons": list(task.reasons),
        "acks_late": task.acks_late,
        "soft_time_limit": task.soft_time_limit_s,
        "time_limit": task.time_limit_s,
    }


def _print_table(tasks: Sequence[TaskSpec], *, no_color: bool) -> None:
    table = Table("task", "lane", "why", title="Lanes")
    for task in tasks:
        table.add_row(task.name, task.lane.name.lower(), "; ".join(task.reasons))
    console = Console(no_color=no_color or None)
    console.print(table)
    counts = Counter(task.lane.name.lower() for task in tasks)
    console.print(", ".join(f"{count} in the {lane} lane" for lane, count in counts.items()) or "no tasks")
