"""What tasks write down, and gates that they wait at, in files: for brokers that bring no server of their own."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["TEST_NOTES_DIR"])
_GATE_S = 120.0
_STEP_S = 0.005


def note(name: str, **fields: Any) -> None:
    """Append one entry; a line is written at once or not at all."""
    line = json.dumps({"pid": os.getpid(), **fields}) + "\n"
    descriptor = os.open(FOLDER / f"{name}.notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def notes(name: str) -> list[dict[str, Any]]:
    """Return the entries in order."""
    path = FOLDER / f"{name}.notes"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_at_gate(name: str) -> None:
    """Return when the gate is open.

    Raises:
        TimeoutError: it stays closed.
    """
    path = FOLDER / f"{name}.open"
    pause = threading.Event()
    for _ in range(int(_GATE_S / _STEP_S)):
        if path.exists():
            return
        pause.wait(_STEP_S)
    raise TimeoutError(f"the gate {name} stays closed")


def open_gate(name: str) -> None:
    """Let through who waits and who will come."""
    (FOLDER / f"{name}.open").touch()
