"""``make bench``: runs the scenarios, keeps their JSON in bench/results, writes docs/benchmarks.md from it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console

from bench import older_redis
from bench.children import measure_children
from bench.eta import ETA_PLACES, measure_eta
from bench.events import measure_events
from bench.group import measure_group
from bench.imports import measure_imports
from bench.probes import measure_probes
from bench.render import write_page
from bench.scenarios import SCENARIOS, Scenario
from bench.shared_file import measure_shared_file
from pyworker.bench.errors import BenchError
from pyworker.bench.peers.registry import is_installed
from pyworker.bench.progress import ConsoleReporter
from pyworker.bench.report import method, render
from pyworker.bench.run import run

RESULTS = Path(__file__).parent / "results"
_ETA_MESSAGES = 1_000_000
_QUICK_ETA_MESSAGES = 50_000
_EVENT_TASKS = 60_000
_QUICK_EVENT_TASKS = 6000


@click.command()
@click.option("--quick", is_flag=True, help="A tenth of the tasks, one round; results are shown and not kept.")
@click.option("--only", default="", metavar="NAMES", help="Comma-separated scenarios; others keep their last figures.")
@click.option("--render-only", is_flag=True, help="Write the page from the kept results.")
def main(quick: bool, only: str, render_only: bool) -> None:
    """Measure everything that docs/benchmarks.md shows."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    chosen = [name for name in only.split(",") if name]
    failed: list[str] = []
    if not render_only:
        for scenario in SCENARIOS:
            if not chosen or scenario.name in chosen:
                _measure(_with_installed_peers(scenario.quick() if quick else scenario), console, quick, failed)
        if not chosen or "children" in chosen:
            _keep("children", {"children": measure_children(console)}, quick)
        if not chosen or "imports" in chosen:
            _keep("imports", {"imports": measure_imports(console)}, quick)
        if not chosen or "group" in chosen:
            sizes = {"size": 1_000, "rounds": 2} if quick else {}
            _keep("group", {"group": measure_group(console, **sizes)}, quick)
        for name, places in ETA_PLACES.items():
            if not chosen or name in chosen:
                messages = _QUICK_ETA_MESSAGES if quick else _ETA_MESSAGES
                _keep(name, {"eta": measure_eta(places, messages, console)}, quick)
        if not chosen or "sqlite-shared" in chosen:
            _keep("sqlite-shared", {"sqlite-shared": measure_shared_file(quick, console)}, quick)
        if not chosen or "probes" in chosen:
            _keep("probes", {"probes": measure_probes(200 if quick else 1_000, console)}, quick)
        if not chosen or "events" in chosen:
            rounds = {"rounds": 1} if quick else {}
            found = measure_events(_QUICK_EVENT_TASKS if quick else _EVENT_TASKS, console, **rounds)
            _keep("events", {"events": found}, quick)
    if not quick:
        write_page(RESULTS)
        console.print("docs/benchmarks.md is written")
    if failed:
        raise click.ClickException(f"not measured or wrong: {', '.join(failed)}")


def _with_installed_peers(scenario: Scenario) -> Scenario:
    compare = tuple(name for name in scenario.options.compare if is_installed(name))
    others = scenario.older_redis if older_redis.is_prepared() else ()
    return replace(scenario, options=replace(scenario.options, compare=compare), older_redis=others)


def _measure(scenario: Scenario, console: Console, quick: bool, failed: list[str]) -> None:
    console.rule(f"{scenario.name}: {scenario.command()}")
    try:
        with ConsoleReporter(console) as reporter:
            outcome = run(scenario.options, reporter)
        for peer in scenario.older_redis:
            outcome.subjects[peer] = older_redis.measure(scenario, peer)
    except BenchError as error:
        # One scenario that cannot be measured must not take the others' figures with it.
        console.print(f"[red]{scenario.name}[/red]: {error}", highlight=False)
        failed.append(scenario.name)
        return
    render(outcome, console)
    if outcome.problems():
        failed.append(scenario.name)
    _keep(scenario.name, {**outcome.as_dict(), "command": scenario.command(), "method": method(outcome)}, quick)


def _keep(name: str, data: dict[str, object], quick: bool) -> None:
    if not quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
