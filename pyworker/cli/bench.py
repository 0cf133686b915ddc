"""``pyworker bench``: measure a worker and check every result."""

from __future__ import annotations

import json
import sys
from typing import Any

import click
from rich.console import Console

from pyworker.bench.errors import BenchError
from pyworker.bench.options import LANES, PRIVATE_FILE, WORKS, BenchOptions
from pyworker.bench.peers.registry import NAMES
from pyworker.bench.places import ONLY_ON_A_FILE
from pyworker.bench.progress import ConsoleReporter
from pyworker.bench.report import render
from pyworker.bench.run import Outcome, run
from pyworker.bench.stopping import clean_end_on_sigterm

_DEFAULTS = BenchOptions()
#: Workers that are measured on a file if nothing else is said.
_BY_DEFAULT_ON_A_FILE = frozenset({"pyworker", "celery"}) | ONLY_ON_A_FILE
#: A log has no width of its own to follow.
_LOG_WIDTH = 140


def _names(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    for name in names:
        if name not in NAMES:
            raise click.BadParameter(f"unknown worker {name!r}; known: {', '.join(NAMES)}")
    return names


@click.command()
@click.option(
    "--broker",
    metavar="URL",
    help="Broker to use: a URL, `redis` or `rabbitmq` for a private server, `sqlite` for a private file. Default: the "
    "file, which needs nothing installed; Redis where --compare or --rtt-ms needs a server.",
)
@click.option("--backend", metavar="URL", help="Result store; by default the broker's server or file.")
@click.option("--tasks", type=click.IntRange(min=1), default=_DEFAULTS.tasks, show_default=True, help="How many tasks.")
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(min=1),
    default=_DEFAULTS.concurrency,
    show_default=True,
    help="Child processes of the worker.",
)
@click.option("-P", "--pool", default=_DEFAULTS.pool, show_default=True, help="Pool of the worker.")
@click.option(
    "--payload",
    "payload_bytes",
    type=click.IntRange(min=0),
    default=0,
    metavar="BYTES",
    help="Size of a text argument of each task.",
)
@click.option("--ignore-result", is_flag=True, help="Store no results.")
@click.option("--duration-us", type=click.IntRange(min=0), default=0, metavar="D", help="Microseconds a task sleeps.")
@click.option(
    "--rtt-ms",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="R",
    help="Round-trip time added between the worker and Redis.",
)
@click.option(
    "--worker", type=click.Choice(NAMES), default=_DEFAULTS.worker, show_default=True, help="The worker under test."
)
@click.option(
    "--compare",
    callback=_names,
    default="",
    metavar="NAMES",
    help=f"Others to run on the same broker, comma-separated: {', '.join(NAMES[1:])}.",
)
@click.option(
    "--compare-tasks",
    type=click.IntRange(min=1),
    default=None,
    metavar="N",
    help="How many tasks the others get, as many as --tasks by default.",
)
@click.option(
    "--compare-concurrency",
    type=click.IntRange(min=1),
    default=None,
    metavar="C",
    help="Concurrency of the others, --concurrency by default.",
)
@click.option("--compare-pool", default=None, metavar="P", help="Pool of the others, --pool by default.")
@click.option(
    "--app-kind",
    type=click.Choice(["celery", "pyworker"]),
    default=_DEFAULTS.app_kind,
    show_default=True,
    help="Library of the application that pyworker runs.",
)
@click.option(
    "--lane",
    type=click.Choice(LANES),
    default=_DEFAULTS.lane,
    show_default=True,
    help="Kind of task: plain, with signal receivers, or one that needs the library's tracer.",
)
@click.option("--work", type=click.Choice(WORKS), default=_DEFAULTS.work, show_default=True, help="What a task does.")
@click.option("--rounds", type=click.IntRange(min=1), default=1, show_default=True, help="Repeat, interleaved.")
@click.option("-l", "--loglevel", default=_DEFAULTS.loglevel, show_default=True, help="Log level of the workers.")
@click.option("--task-events", is_flag=True, help="Have the workers send task events, as with -E.")
@click.option(
    "--idle-round-trips",
    type=click.IntRange(min=0),
    default=_DEFAULTS.idle_round_trips,
    show_default=True,
    help="Round trips to an idle worker; 0 leaves them out.",
)
@click.option(
    "--idle-cpu-s",
    type=click.FloatRange(min=0),
    default=_DEFAULTS.idle_cpu_s,
    show_default=True,
    help="Seconds of idleness over which CPU time is read; 0 leaves it out.",
)
@click.option(
    "--load-s",
    type=click.FloatRange(min=0),
    default=_DEFAULTS.load_s,
    show_default=True,
    help="Seconds of open-loop load; 0 leaves it out.",
)
@click.option("--json", "json_path", metavar="FILE", help="Write everything as JSON; - for standard output.")
def bench(json_path: str | None, **options: Any) -> None:
    """Measure a worker: sending, draining, latency, CPU and memory, with every result checked."""
    # With JSON on standard output everything for people goes to standard error.
    console = Console(stderr=json_path == "-")
    if not console.is_terminal:
        console = Console(stderr=json_path == "-", width=_LOG_WIDTH)
    try:
        with clean_end_on_sigterm(), ConsoleReporter(console) as reporter:
            options["broker"] = _broker(options)
            outcome = run(BenchOptions(**options), reporter)
    except BenchError as error:
        raise click.ClickException(str(error)) from error
    render(outcome, console)
    if json_path is not None:
        _write_json(outcome, json_path)
    if outcome.problems():
        sys.exit(1)


def _broker(options: dict[str, Any]) -> str | None:
    """Return the broker as the bench takes it."""
    chosen: str | None = options["broker"]
    if chosen is None:
        needs_server = options["rtt_ms"] or {*options["compare"], options["worker"]} - _BY_DEFAULT_ON_A_FILE
        return None if needs_server else PRIVATE_FILE
    if chosen == "sqlite://":
        return PRIVATE_FILE
    return None if chosen == "redis" else chosen


def _write_json(outcome: Outcome, path: str) -> None:
    text = json.dumps(outcome.as_dict(), indent=2)
    if path == "-":
        click.echo(text)
        return
    with open(path, "w") as file:
        file.write(text + "\n")
