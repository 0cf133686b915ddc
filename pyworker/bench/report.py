"""Prints what was measured, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from pyworker.bench.figures import mean_and_deviation
from pyworker.bench.options import PRIVATE_FILE, PRIVATE_RABBITMQ

if TYPE_CHECKING:
    from rich.console import Console

    from pyworker.bench.run import Outcome

#: Figure -> (label, decimals).
ROWS = {
    "enqueue_per_s": ("send one at a time, tasks/s", 0),
    "batch_enqueue_per_s": ("send a batch, tasks/s", 0),
    "drain_per_s": ("drain, tasks/s", 0),
    "drain_with_start_per_s": ("drain with worker start, tasks/s", 0),
    "start_to_first_task_s": ("worker start to first task, s", 2),
    "cpu_s_per_1000": ("worker CPU per 1,000 tasks, s", 4),
    "idle_start_p50_ms": ("idle worker, sending to start, median, ms", 3),
    "idle_p50_ms": ("idle round trip, median, ms", 3),
    "idle_p99_ms": ("idle round trip, p99, ms", 3),
    "load_offered_per_s": ("open loop at half the drain rate, tasks/s", 0),
    "load_sent_p50_ms": ("  due to sent, median, ms", 3),
    "load_sent_p99_ms": ("  due to sent, p99, ms", 3),
    "load_p50_ms": ("  due to started, median, ms", 3),
    "load_p99_ms": ("  due to started, p99, ms", 3),
    "load_max_ms": ("  due to started, longest, ms", 3),
    "peak_memory_mb": ("peak memory (PSS), all processes, MB", 1),
    "parent_memory_mb": ("main process (PSS), MB", 1),
    "child_memory_mb": ("each other process (PSS), MB", 1),
    "processes": ("processes", 0),
    "idle_cpu_percent": ("idle CPU, % of a core", 3),
    "stop_s": ("warm stop, s", 2),
}


def method(outcome: Outcome) -> str:
    """Describe in a few sentences how the figures came about."""
    options = outcome.options
    broker = options.broker or "a private Redis server on this machine, no persistence, results in database 1"
    if broker == PRIVATE_FILE:
        broker = "a private folder on this machine's disk, results in the same file unless said otherwise"
    if broker == PRIVATE_RABBITMQ:
        broker = "a private RabbitMQ node on this machine, durable queues; results on a private Redis server"
    extra = [f"payload {options.payload_bytes} bytes"] if options.payload_bytes else []
    extra += [f"each task sleeps {options.duration_us} us"] if options.duration_us else []
    extra += [f"{options.rtt_ms} ms round trip between worker and broker"] if options.rtt_ms else []
    if options.compare:
        compared = options.for_compared()
        extra += [f"the others: {compared.tasks} tasks, pool {compared.pool}, concurrency {compared.concurrency}"]
    extra += ["results ignored"] if options.ignore_result else ["results stored and every one read back and checked"]
    return (
        f"{options.tasks} tasks ({options.work}; {'; '.join(extra)}), pool {options.pool}, concurrency "
        f"{options.concurrency}, default prefetch, log level {options.loglevel}, lane {options.lane}, "
        f"{options.rounds} round(s); broker: {broker}. Up to {options.publish_sample} tasks are sent one at a time and "
        "as many as a batch by the library's client, the rest are copies of its messages; then the worker starts. "
        "Drain counts from the first task's start to the last result stored. Every task records its start in "
        "shared memory, which shows each repeated or missing run."
    )


def render(outcome: Outcome, console: Console) -> None:
    """Print tables, ratios and problems."""
    facts = ", ".join(f"{name} {value}" for name, value in outcome.machine.items())
    console.print(f"[bold]Machine[/bold]: {facts}", highlight=False)
    console.print(f"[bold]Method[/bold]: {method(outcome)}", highlight=False)
    names = list(outcome.subjects)
    console.print(_figures_table(outcome, names))
    if len(names) > 1:
        console.print(_ratios_table(outcome, names[0], names[1:]))
    for name in names:
        checked = sum(item.checked_results for item in outcome.subjects[name])
        repeated = sum(item.repeated for item in outcome.subjects[name])
        console.print(f"{name}: {checked} results checked, {repeated} tasks ran twice", highlight=False)
    for problem in outcome.problems():
        console.print(f"[red]PROBLEM[/red] {problem}", highlight=False, markup=True)


def _figures_table(outcome: Outcome, names: list[str]) -> Table:
    table = Table("")
    for name in names:
        version = outcome.subjects[name][0].version
        table.add_column(name if version in ("-", "source tree") else f"{name} {version}", justify="right")
    for figure, (label, decimals) in ROWS.items():
        cells = [cell(outcome, name, figure, decimals) for name in names]
        if any(cells):
            table.add_row(label, *cells)
    return table


def _ratios_table(outcome: Outcome, name: str, others: list[str]) -> Table:
    table = Table(f"{name}, divided by", *others)
    for figure, (label, _decimals) in ROWS.items():
        ratios = [outcome.ratio(figure, other) for other in others]
        if any(ratio is not None for ratio in ratios):
            table.add_row(label, *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios))
    return table


def cell(outcome: Outcome, subject: str, figure: str, decimals: int) -> str:
    """Return one figure as text: mean, and deviation if there were several rounds."""
    found = mean_and_deviation(outcome.subjects[subject], figure)
    if found is None:
        return ""
    mean, deviation = found
    spread = f" ±{deviation:,.{decimals}f}" if len(outcome.subjects[subject]) > 1 else ""
    return f"{mean:,.{decimals}f}{spread}"
