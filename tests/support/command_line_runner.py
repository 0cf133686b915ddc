"""Runs many command lines of ``celery`` or ``pyworker`` in one process: importing takes the longest.

A process of its own all the same, because Celery's command line changes the state of its process. Started with the
program's name; reads a JSON list of argument lists, writes a JSON list of ``[exit code, output, errors]``.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

from click.testing import CliRunner

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_COMMANDS = {"celery": ("celery.bin.celery", "celery"), "pyworker": ("pyworker.cli.main", "cli")}


class Ran(NamedTuple):
    """What a command line did."""

    exit_code: int
    output: str
    errors: str


def run_lines(
    program: str, lines: Sequence[Sequence[str]], *, environment: Mapping[str, str], directory: Path
) -> list[Ran]:
    """Run command lines one after the other in a process of their own."""
    done = subprocess.run(
        [sys.executable, __file__, program],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        env=dict(environment),
        cwd=directory,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return [Ran(*each) for each in json.loads(done.stdout)]


def _main(program: str) -> None:
    sys.path.insert(0, "")
    module, name = _COMMANDS[program]
    command = getattr(importlib.import_module(module), name)
    results = []
    for line in json.load(sys.stdin):
        sys.argv = [program, *line]
        ran = CliRunner().invoke(command, line, prog_name=program, auto_envvar_prefix="CELERY")
        if ran.exception is not None and not isinstance(ran.exception, SystemExit):
            results.append((ran.exit_code, ran.stdout, f"{ran.stderr}{ran.exception!r}"))
        else:
            results.append((ran.exit_code, ran.stdout, ran.stderr))
    json.dump(results, sys.__stdout__)


if __name__ == "__main__":
    _main(sys.argv[1])
