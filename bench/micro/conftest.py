"""The Rust program that runs the engine's inner operations, built once and kept running."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ROOT = Path(__file__).parent.parent.parent
_BUILD = [
    "cargo", "build", "--release", "--locked", "-q", "-p", "pyworker-native", "--no-default-features",
    "--example", "microbench", "--message-format", "json",
]  # fmt: skip


def _build() -> str:
    built = subprocess.run(_BUILD, cwd=_ROOT, stdout=subprocess.PIPE, text=True, check=True, env=os.environ)
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "microbench":
            return str(message["executable"])
    raise RuntimeError("cargo named no program")


@pytest.fixture(scope="session")
def native() -> Iterator[Callable[[str, int], None]]:
    """Return a function that runs a named operation so many times; it fails if the operation's check does."""
    with subprocess.Popen([_build()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        stdin, stdout = program.stdin, program.stdout
        assert stdin is not None and stdout is not None

        def run(name: str, count: int) -> None:
            stdin.write(f"{name} {count}\n")
            stdin.flush()
            assert stdout.readline() == f"{count}\n"

        yield run
        stdin.close()
    assert program.returncode == 0
