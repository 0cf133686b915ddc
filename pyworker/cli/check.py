"""``pyworker check``: how the broker is reached, which lane every task is in, and why. Connects to nothing."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from pyworker.cli.option_types import GroupedCommand
from pyworker.exceptions import ImproperlyConfigured
from pyworker.transport.native_paths import KnowsBrokerPath

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyworker.cli.context import CliContext
    from pyworker.worker.protocol import TaskSpec, WorkerApp


@click.command(cls=GroupedCommand)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@click.pass_context
def check(ctx: click.Context, /, as_json: bool) -> None:
    """Show the way to the broker, every task's lane and the reasons."""
    context: CliContext = ctx.obj
    app = context.worker_app()
    tasks = sorted(app.tasks(), key=lambda task: task.name)
    broker = _broker(app)
    if as_json:
        click.echo(json.dumps({"broker": broker, "tasks": [_as_dict(task) for task in tasks]}, indent=2))
    else:
        click.echo(f"Broker: {broker['transport']}, {broker['path']} ({broker['reason']})\n")
        _print_table(tasks, no_color=context.no_color)


def _broker(app: WorkerApp) -> dict[str, str]:
    """How a worker would reach the broker, and why so."""
    if not isinstance(app, KnowsBrokerPath):
        return {"transport": "unknown", "path": "unknown", "reason": "the application does not say"}
    try:
        path = app.broker_path()
    except ImproperlyConfigured as error:
        return {"transport": "none", "path": "refused", "reason": str(error)}
    return {
        "transport": path.transport, "path": "native" if path.is_native else "through kombu", "reason": path.reason
    }  # fmt: skip


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
