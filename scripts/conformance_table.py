"""Write what the conformance suite reported into the documentation: conformance_table.py REPORT PAGE."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

BEGIN, END = "<!-- conformance: begin (make conformance) -->", "<!-- conformance: end -->"
_ORDER = (
    "results", "payloads", "delivery_information", "retries", "requeue", "reject", "eta", "expiry", "order", "workflow",
    "lost_child", "children_inherit_nothing", "prefetch_and_shutdown", "shutdown", "cold_shutdown", "remote_control",
    "added_queue", "events",
)  # fmt: skip
_SIGNS = {"passed": "yes", "failed": "**no**"}


def main() -> None:
    """Replace the generated part of the page."""
    report, page = Path(sys.argv[1]), Path(sys.argv[2])
    rows: dict[str, dict[str, str]] = {}
    for line in report.read_text().splitlines():
        transport, scenario, outcome = json.loads(line)
        rows.setdefault(transport, {})[scenario] = outcome
    text = page.read_text()
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    before = pattern.search(text)
    if before is None:
        sys.exit(f"{page}: the markers of the generated part are missing")
    # Several processes report as they come; rows stay where the page has them.
    places = re.findall(r"^\| (.+?) \|", before[0], re.MULTILINE)
    rows = dict(sorted(rows.items(), key=lambda row: places.index(row[0]) if row[0] in places else len(places)))
    page.write_text(pattern.sub(lambda _: f"{BEGIN}\n{table(rows)}\n{END}", text))


def table(rows: dict[str, dict[str, str]]) -> str:
    """Return the tables in Markdown: of the scenarios, and of the brokers that get one short test instead."""
    short = {transport: row["smoke"] for transport, row in rows.items() if "smoke" in row}
    full = {transport: row for transport, row in rows.items() if transport not in short}
    seen = {scenario for row in full.values() for scenario in row}
    columns = [scenario for scenario in _ORDER if scenario in seen] + sorted(seen - {*_ORDER, "*"})
    lines = [
        "| broker | " + " | ".join(column.replace("_", " ") for column in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for transport, row in full.items():
        cells = [_SIGNS.get(row.get(column, ""), row.get(column, row.get("*", "-"))) for column in columns]
        lines.append(f"| {transport} | " + " | ".join(cells) + " |")
    lines += ["", "| one short test: early and late acks, a retry, a countdown, a warm stop | |", "|---|---|"]
    lines += [f"| {transport} | {_SIGNS.get(outcome, outcome)} |" for transport, outcome in short.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
