"""How workers and tasks are put into words for the monitor."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

WORKER_COLUMNS = ("worker", "status", "active", "processed", "failed", "succeeded", "load", "software")
TASK_COLUMNS = ("received", "task", "id", "worker", "state", "runtime", "arguments")
_TIMES = (
    "sent", "received", "started", "succeeded", "failed", "retried", "revoked", "rejected", "eta", "expires",
)  # fmt: skip
_MISSING = "-"
_STATE_COLORS = {
    "SUCCESS": "green", "FAILURE": "red", "RETRY": "yellow", "STARTED": "cyan", "REVOKED": "magenta",
    "REJECTED": "magenta",
}  # fmt: skip


def worker_row(worker: Any, counts: Any) -> tuple[str, ...]:
    """Return a worker's cells.

    Args:
        worker: as of the state.
        counts: events by worker and type.
    """
    name = str(worker.hostname)
    software = " ".join(str(part) for part in (worker.sw_ident, worker.sw_ver) if part)
    load = ", ".join(f"{each:.2f}" for each in worker.loadavg or ())
    return (
        name, worker.status_string, _text(worker.active), _text(worker.processed), str(counts[name, "task-failed"]),
        str(counts[name, "task-succeeded"]), load or _MISSING, software or _MISSING,
    )  # fmt: skip


def task_row(task: Any) -> tuple[str, ...]:
    """Return a task's cells."""
    since = task.received or task.sent or task.timestamp
    arguments = " ".join(str(part) for part in (task.args, task.kwargs) if part not in (None, "", "()", "{}"))
    return (
        clock_time(since), _text(task.name), _text(task.uuid), worker_name(task), task.state, duration(task.runtime),
        arguments or _MISSING,
    )  # fmt: skip


def state_color(state: str) -> str:
    """Return the colour of a state."""
    return _STATE_COLORS.get(state, "")


def task_details(task: Any) -> list[tuple[str, str]]:
    """Return everything known about a task but its result and traceback: names and values."""
    known = task.info(("name", "uuid", "state", "args", "kwargs", "retries", *_TIMES, "root_id", "parent_id"))
    known |= task.info(("exchange", "routing_key", "client"))
    shown = [(name, clock_time(value) if _is_time(name, value) else str(value)) for name, value in known.items()]
    shown.append(("worker", worker_name(task)))
    if task.runtime is not None:
        shown.append(("runtime", duration(task.runtime)))
    children = sorted(str(child.id) for child in task.children)
    if children:
        shown.append(("children", ", ".join(children)))
    return shown


def worker_details(worker: Any, counts: Any) -> list[tuple[str, str]]:
    """Return everything that events tell of a worker: names and values."""
    shown = [(name, _text(getattr(worker, name))) for name in worker._fields if name != "heartbeats"]
    if worker.heartbeats:
        shown.append(("last heartbeat", clock_time(worker.heartbeats[-1])))
    events = sorted((kind, number) for (name, kind), number in counts.items() if name == worker.hostname)
    return [("status", worker.status_string), *shown, *((kind, str(number)) for kind, number in events)]


def worker_name(task: Any) -> str:
    """Return the name of the node that has a task."""
    return _MISSING if task.worker is None else str(task.worker.hostname)


def clock_time(timestamp: float | None) -> str:
    """Return a time of day, local."""
    return _MISSING if not timestamp else datetime.fromtimestamp(timestamp).strftime("%H:%M:%S")


def duration(seconds: float | None) -> str:
    """Return a duration, short."""
    if seconds is None:
        return _MISSING
    return f"{seconds * 1000:.2f} ms" if seconds < 1 else f"{seconds:.2f} s"


def replies_text(replies: Iterable[dict[str, Any]] | None) -> str:
    """Return what workers answered to a command, a line for each."""
    lines = []
    for reply in replies or ():
        for node, answer in reply.items():
            said = answer.get("ok") or answer.get("error") if isinstance(answer, dict) else answer
            lines.append(f"{node}: {said}")
    return "\n".join(lines) or "no worker answered"


def _is_time(name: str, value: Any) -> bool:
    return name in _TIMES and isinstance(value, (int, float))


def _text(value: Any) -> str:
    return _MISSING if value is None else str(value)
