"""Writes docs/benchmarks.md and its plots from bench/results; nothing in them is written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.plot import bar_chart
from bench.scenarios import SCENARIOS
from pyworker.bench.report import ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

_DOCS = Path(__file__).parent.parent / "docs"
_HEAD = """# Benchmarks

Written by `make bench` from the JSON files in `bench/results`; nothing here is typed in. Each section names the
command that repeats it. `bench/README.md` says how each figure is taken. A figure counts only if every result was
read back and right, and no task ran twice; sections where that failed say so.
"""
#: Scenarios in the plot of drain rates.
_PLOTTED = ("fast", "receivers", "library", "own", "w1", "w2-noop")

_CHILDREN = "Proportional set sizes of all processes of a worker added up, at two sizes of the pool."
_SHARED_TITLE = "Two workers and four producers on one SQLite file"
_SHARED = (
    "Our client and worker, each worker with one child, everything durable, all at the same time; every result read "
    "back and checked. `published` is until the slowest producer has sent its share, `finished` until the last "
    "result is stored, both from the common start; `bare syncs` is how often a single process can wait for this disk."
)
_ETA = {
    "eta": ("ETA tasks held (Redis)", "all taken in by one worker"),
    "eta-sqlite": ("ETA tasks held (SQLite)", "which wait in the file beside one worker"),
}
_EVENTS = (
    "Drain of the drop-in's fast lane on a Redis server of its own, medians of interleaved rounds; the monitor "
    "subscribes to the event exchange and reads what comes."
)
_IMPORTS = "Processor time and memory of importing the package and its `Celery` class, medians of interpreters in turn."
_GROUP = (
    "A real `group(...).apply_async()` of 10,000 tasks, its signatures made while the clock runs, and 1,000 calls of "
    "`delay()`, both libraries in turn on one Redis: microseconds for each task, medians of the rounds. `cpu` is the "
    "sending process's processor time, `ratio` Celery's figure through ours."
)
_PROBES = "How long answers take while the node drains a queue that never empties, and while every child is blocked."


def write_page(results: Path) -> None:
    """Write the page from the results that exist."""
    data = {path.stem: json.loads(path.read_text()) for path in sorted(results.glob("*.json"))}
    known = [scenario for scenario in SCENARIOS if scenario.name in data]
    parts = [_HEAD]
    if known:
        parts.append(_machine(data[known[0].name]["machine"]))
        _write_plot({scenario.name: data[scenario.name] for scenario in known if scenario.name in _PLOTTED})
        parts.append("![Drain rates](benchmarks-drain.svg)\n")
    else:
        parts.append("Nothing is measured yet: run `make bench` on a machine that has nothing else to do.\n")
    for scenario in known:
        parts.append(_section(scenario.title, scenario.text, scenario.figures, data[scenario.name]))
    if "children" in data:
        parts.append(_table("Memory per added child", _CHILDREN, "children", data["children"]["children"]))
    if "events" in data:
        parts.append(_table("Task events", _EVENTS, "events", data["events"]["events"]))
    if "imports" in data:
        parts.append(_table("Importing", _IMPORTS, "imports", data["imports"]["imports"]))
    if "group" in data:
        parts.append(_table("Sending a group", _GROUP, "group", data["group"]["group"]))
    if "sqlite-shared" in data:
        parts.append(_table(_SHARED_TITLE, _SHARED, "sqlite-shared", data["sqlite-shared"]["sqlite-shared"]))
    for name, (title, text) in _ETA.items():
        if name in data:
            parts.append(_eta(name, title, text, data[name]["eta"]))
    if "probes" in data:
        parts.append(_table("Probes", _PROBES, "probes", data["probes"]["probes"]))
    (_DOCS / "benchmarks.md").write_text("\n".join(parts))


def _machine(facts: dict[str, str]) -> str:
    return "Machine: " + ", ".join(f"{name} {value}" for name, value in facts.items()) + ".\n"


def _section(title: str, text: str, figures: Sequence[str], data: dict[str, Any]) -> str:
    names = list(data["subjects"])
    versions = {name: data["subjects"][name][0]["version"] for name in names}
    others = names[1:]
    lines = [f"## {title}", "", text, "", f"`{data['command']}`", ""]
    head = [""] + [name if versions[name] in ("-", "source tree") else f"{name} {versions[name]}" for name in names]
    lines.append("| " + " | ".join([*head, *(f"ratio to {other}" for other in others)]) + " |")
    lines.append("|---|" + "---:|" * (len(names) + len(others)))
    for figure, (label, decimals) in ROWS.items():
        if figures and figure not in figures:
            continue
        cells = [_cell(data["subjects"][name], figure, decimals) for name in names]
        if any(cells):
            ratios = [data["ratios"].get(other, {}).get(figure) for other in others]
            texts = ["" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
            lines.append("| " + " | ".join([label.strip(), *cells, *texts]) + " |")
    checked = sum(item["checked_results"] for rounds in data["subjects"].values() for item in rounds)
    lines += ["", f"{checked:,} results checked. {data['method']}", ""]
    lines += [f"**PROBLEM** {problem}\n" for problem in data["problems"]]
    return "\n".join(lines)


def _cell(rounds: Sequence[dict[str, Any]], figure: str, decimals: int) -> str:
    values = [item[figure] for item in rounds if item.get(figure) is not None]
    if not values:
        return ""
    mean = sum(values) / len(values)
    if len(values) == 1:
        return f"{mean:,.{decimals}f}"
    deviation = (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5
    return f"{mean:,.{decimals}f} ± {deviation:,.{decimals}f}"


def _write_plot(data: dict[str, dict[str, Any]]) -> None:
    groups = []
    for name, item in data.items():
        bars = []
        for subject, rounds in item["subjects"].items():
            values = [figures["drain_per_s"] for figures in rounds if figures["drain_per_s"]]
            if values and subject != "ideal":
                bars.append((subject, sum(values) / len(values)))
        groups.append((name, bars))
    (_DOCS / "benchmarks-drain.svg").write_text(bar_chart("Drain, tasks per second (logarithmic)", groups))


def _table(title: str, text: str, name: str, data: dict[str, dict[str, float]]) -> str:
    lines = [f"## {title}", "", text, "", f"`python -m bench.run --only {name}`", ""]
    columns = sorted({column for item in data.values() for column in item})
    lines.append("| | " + " | ".join(column.replace("_", " ") for column in columns) + " |")
    lines.append("|---|" + "---:|" * len(columns))
    for name, item in data.items():
        lines.append(f"| {name} | " + " | ".join(f"{_number(item[column])}" for column in columns) + " |")
    return "\n".join([*lines, ""])


def _number(value: float) -> str:
    return f"{value:,.1f}" if value >= 10 else f"{value:.2f}"


def _eta(name: str, title: str, text: str, data: dict[str, float]) -> str:
    return "\n".join(
        [
            f"## {title}", "",
            f"Messages of a stock client, due in twelve hours, {text}; memory is the "
            "proportional set size of all its processes.", "",
            f"`python -m bench.run --only {name}`", "",
            "| messages | before, MB | held, MB | bytes per message | seconds to send and take in |",
            "|---:|---:|---:|---:|---:|",
            f"| {data['messages']:,.0f} | {data['memory_before_mb']:.0f} | {data['memory_held_mb']:.0f} "
            f"| {data['bytes_per_message']:.0f} | {data['seconds']:.0f} |", "",
        ]
    )  # fmt: skip
