"""``pyworker demo``: see it work in half a minute."""

from __future__ import annotations

import importlib.util
import os
import sys

import click
from rich.console import Console
from rich.table import Table

from pyworker.bench.errors import BenchError
from pyworker.bench.progress import ConsoleReporter
from pyworker.bench.stopping import clean_end_on_sigterm
from pyworker.demo.run import Happening, make_log_directory, measure_rate, run_steps

_DEFAULT_APP = "examples.demo_app.tasks"
#: A log has no width of its own to follow.
_LOG_WIDTH = 140


@click.command()
@click.option("--app", default=_DEFAULT_APP, show_default=True, help="Module of the application.")
@click.option(
    "--tasks",
    type=click.IntRange(min=100),
    default=20_000,
    show_default=True,
    help="Tasks of the part that measures the rate.",
)
@click.option(
    "--worker",
    type=click.Choice(["pyworker", "celery"]),
    default="pyworker",
    show_default=True,
    help="Worker to run; celery's own shows that the application is an ordinary one.",
)
@click.option(
    "--broker",
    default="sqlite",
    show_default=True,
    metavar="URL",
    help="`sqlite` for a new file, `redis` for a private server, or the URL of a broker.",
)
def demo(app: str, tasks: int, worker: str, broker: str) -> None:
    """Start a worker on a new SQLite file, send tasks of several kinds, show what happened and the rate."""
    sys.path.insert(0, os.getcwd())
    if importlib.util.find_spec(app.partition(".")[0]) is None:
        raise click.ClickException(f"no module {app}: run this in the source tree, or name your own with --app")
    console = Console()
    if not console.is_terminal:
        console = Console(width=_LOG_WIDTH)
    log_directory = make_log_directory()
    happenings: list[Happening] = []

    def on_step(happening: Happening) -> None:
        happenings.append(happening)
        mark = "ok" if happening.is_right else "WRONG"
        console.print(f"  {mark:5} {happening.title}: {happening.outcome}", highlight=False, markup=False)

    try:
        console.print(
            f"{worker} is starting on {broker}; the worker's log is {log_directory}/worker.log", highlight=False
        )
        with clean_end_on_sigterm(), ConsoleReporter(console) as reporter:
            exit_code, stop_s = run_steps(worker, app, log_directory, on_step, broker)
            figures = measure_rate(worker, tasks, reporter, broker)
    except BenchError as error:
        raise click.ClickException(str(error)) from error

    console.print(_table(happenings))
    console.print(f"Warm shutdown took {stop_s:.2f} s, exit code {exit_code}.", highlight=False)
    console.print(
        f"{figures.drain_per_s or 0:,.0f} tasks/s: {figures.tasks:,} tasks of a stock Celery client on 2 children, "
        f"results stored; {figures.checked_results:,} results read back and checked, {figures.repeated} ran twice.",
        highlight=False,
    )
    for problem in figures.problems:
        console.print(f"PROBLEM {problem}", style="red", highlight=False, markup=False)
    if exit_code or figures.problems or not all(happening.is_right for happening in happenings):
        sys.exit(1)


def _table(happenings: list[Happening]) -> Table:
    table = Table("what", "call", "what happened", "seconds", "")
    for item in happenings:
        table.add_row(item.title, item.call, item.outcome, f"{item.seconds:.3f}", "ok" if item.is_right else "WRONG")
    return table
