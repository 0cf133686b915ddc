"""The start-up banner: Celery's own, with a line for the engine."""

from __future__ import annotations

import re
from typing import Any

from celery.apps import worker as program
from kombu.utils.encoding import safe_str

from pyworker import _native

_INDENTATION = " " * 16


def startup_banner(worker: Any) -> str:
    """Return the text that Celery's worker would print, engine included; broker and results without passwords."""
    lines = worker.startup_info(artlines=False).splitlines()
    events = next((index for index, line in enumerate(lines) if line.startswith(".> task events:")), len(lines) - 1)
    lines.insert(events + 1, f".> engine:      pyworker {_native.__version__}")
    lines = [sanitize(line) for line in lines]
    art = program.ARTLINES
    drawn = [f"{art[row]} {line}" if row < len(art) else f"{_INDENTATION}{line}" for row, line in enumerate(lines)]
    colored = worker.colored
    return safe_str(  # type: ignore[no-any-return]
        str(colored.cyan(" \n", "\n".join(drawn) + "\n")) + str(colored.reset(worker.extra_info() or ""))
    )


def sanitize(line: str) -> str:
    """Hide a password that an address still shows."""
    return re.sub(r"(://[^:@/\s]*:)(?!\*\*@)[^@/\s]+@", r"\1**@", line)
