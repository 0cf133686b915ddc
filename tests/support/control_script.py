"""Every remote control command in one order, and what is compared of the replies of two workers."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from support.pair import plain, shape
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from support.stage import Stage

_UNSTABLE_STATS = ("total", "uptime", "clock", "rusage")
#: Names of servers' parts that each stage makes up for itself.
_PLACE = re.compile(r"pyworker-sqlite-\w+|test-[0-9a-f]{12}")
Command = tuple[str, dict[str, Any], "Callable[[Any], Any]"]


def ask(stage: Stage, command: str, **arguments: Any) -> Any:
    """Return the one node's reply to a command."""

    def reply() -> Any:
        if not stage.worker.is_running:
            raise RuntimeError(f"the worker is gone: {command} {arguments}")
        replies = stage.app.control.broadcast(
            command, arguments=arguments, reply=True, timeout=20, limit=1, destination=[stage.worker.node_name]
        )
        assert replies, f"no reply to {command}"
        return [replies[0][stage.worker.node_name]]

    return eventually(reply, deadline_s=60)[0]


def stats_view(reply: Any) -> Any:
    """Keep of the statistics what two workers of the same build share."""
    pool = reply["pool"]
    kept = {key: value for key, value in reply.items() if key not in _UNSTABLE_STATS}
    broker = {**reply["broker"], "port": 0}
    kept |= {"pool": shape(pool), "broker": anonymous(broker), "pid": type(reply["pid"]).__name__}
    return kept | {key: shape(reply[key]) for key in _UNSTABLE_STATS}


def anonymous(value: Any) -> Any:
    """Put process ids, clock times and made up names away."""
    if isinstance(value, dict):
        hidden = ("worker_pid", "eta")
        return {key: type(each).__name__ if key in hidden else anonymous(each) for key, each in value.items()}
    if isinstance(value, list):
        return [anonymous(each) for each in value]
    if isinstance(value, str):
        value = _PLACE.sub("<place>", value)
        return "".join(sorted(value)) if value.startswith("tasks {") else value
    return value


def _report(reply: Any) -> Any:
    """Put the lines of a report away that name servers, and the modules, which have no order."""
    return [line for line in str(reply["ok"]).splitlines() if "://" not in line and "builtins" not in line]


def _conf(reply: Any) -> Any:
    # Celery makes a set of the modules to include.
    kept = {key: value for key, value in reply.items() if "127.0.0.1" not in str(value) and "://" not in str(value)}
    return kept | ({"include": sorted(reply["include"])} if reply.get("include") else {})


def _concurrency(reply: Any) -> Any:
    return [reply["prefetch_count"], reply["pool"]["max-concurrency"]]


#: What only reads.
READING: tuple[Command, ...] = (
    ("ping", {}, plain),
    ("clock", {}, shape),
    ("report", {}, _report),
    ("conf", {}, _conf),
    ("dump_conf", {"with_defaults": True}, _conf),
    ("registered", {}, plain),
    ("registered", {"taskinfoitems": ["rate_limit", "acks_late"]}, plain),
    ("dump_tasks", {"builtins": True}, plain),
    ("active_queues", {}, plain),
    ("stats", {}, stats_view),
    ("active", {}, plain),
    ("dump_active", {"safe": True}, plain),
    ("reserved", {}, plain),
    ("dump_reserved", {}, plain),
    ("scheduled", {}, plain),
    ("dump_schedule", {}, plain),
    ("revoked", {}, plain),
    ("dump_revoked", {}, plain),
    ("query_task", {"ids": ["nobody"]}, plain),
    ("query_task", {"ids": "nobody"}, plain),
    ("query_task", {}, plain),
    ("hello", {"from_node": "somebody@elsewhere", "revoked": ["of-another"]}, shape),
    ("revoked", {}, plain),
    ("hello", {"from_node": "somebody@elsewhere"}, lambda reply: sorted(reply["revoked"])),
    ("memsample", {}, shape),
    ("memdump", {}, shape),
    ("memdump", {"samples": 1}, shape),
    ("objgraph", {"num": 1, "max_depth": 1}, lambda reply: "error" in reply),
)
#: What changes limits, queues and events.
CHANGING: tuple[Command, ...] = (
    ("rate_limit", {"task_name": "tasks.mul", "rate_limit": "3/m"}, plain),
    ("rate_limit", {"task_name": "tasks.mul", "rate_limit": 0}, plain),
    ("rate_limit", {"task_name": "tasks.none", "rate_limit": "3/m"}, plain),
    ("rate_limit", {"task_name": "tasks.mul", "rate_limit": "three"}, plain),
    ("rate_limit", {"task_name": "tasks.mul"}, plain),
    ("time_limit", {"task_name": "tasks.mul", "soft": 30, "hard": 60}, plain),
    ("time_limit", {"task_name": "tasks.mul"}, plain),
    ("time_limit", {"task_name": "tasks.none", "soft": 1}, plain),
    ("registered", {}, plain),
    ("add_consumer", {"queue": "further"}, plain),
    ("active_queues", {}, plain),
    ("add_consumer", {"queue": "topical", "exchange": "ex", "exchange_type": "topic", "routing_key": "a.#"}, plain),
    ("active_queues", {}, plain),
    ("cancel_consumer", {"queue": "further"}, plain),
    ("cancel_consumer", {"queue": "topical"}, plain),
    ("cancel_consumer", {"queue": "never-there"}, plain),
    ("active_queues", {}, plain),
    ("enable_events", {}, plain),
    ("enable_events", {}, plain),
    ("disable_events", {}, plain),
    ("disable_events", {}, plain),
    ("heartbeat", {}, plain),
)
#: What changes the pool.
POOL: tuple[Command, ...] = (
    ("pool_grow", {"n": 1}, plain),
    ("stats", {}, _concurrency),
    ("pool_shrink", {"n": 1}, plain),
    ("stats", {}, _concurrency),
    ("pool_restart", {}, plain),
    ("autoscale", {"max": 4, "min": 1}, plain),
)
#: What revokes, and what is not there.
REVOKING: tuple[Command, ...] = (
    ("revoke", {"task_id": "not-there"}, plain),
    ("revoke", {"task_id": ["one-of-one"], "terminate": True}, plain),
    ("terminate", {"signal": "KILL", "task_id": "not-there"}, plain),
    ("terminate", {"signal": "NOSUCH", "task_id": "not-there"}, plain),
    ("revoke_by_stamped_headers", {"headers": {"shift": ["night"]}}, plain),
    ("revoke_by_stamped_headers", {"headers": ["shift=day"], "terminate": True}, plain),
    ("revoked", {}, sorted),
    ("no_such_command", {}, lambda reply: "error" in reply),
    ("rate_limit", {}, plain),
    ("ping", {"unexpected": 1}, plain),
)
#: The application's own (``apps/either.py``).
CUSTOM: tuple[Command, ...] = (
    ("echo_word", {"word": "hello"}, plain),
    ("echo_word", {}, plain),
    ("set_number", {"number": 3}, plain),
    ("also_known_as", {"number": 4}, plain),
    ("failing_command", {}, plain),
    ("echo_word", {"no_such": 1}, plain),
)


def differences(stock: Stage, ours: Stage, script: Iterable[Command]) -> list[str]:
    """Ask both workers; return a text for each reply that differs."""
    found = []
    for command, arguments, view in script:
        difference = _compare(stock, ours, command, arguments, view)
        if difference is not None and command == "active_queues":
            # Either worker changes its queues after it has answered.
            difference = _compare_soon(stock, ours, command, arguments, view)
        if difference is not None:
            found.append(told(f"{command} {arguments}", *difference))
    return found


def told(name: str, stock: Any, ours: Any) -> str:
    """Describe a difference; of mappings only the items that differ."""
    if isinstance(stock, dict) and isinstance(ours, dict):
        names = [key for key in {**stock, **ours} if stock.get(key, "absent") != ours.get(key, "absent")]
        stock, ours = ({key: each.get(key, "absent") for key in names} for each in (stock, ours))
    return f"{name}\n  stock {stock}\n  ours  {ours}"


def _compare(
    stock: Stage, ours: Stage, command: str, arguments: dict[str, Any], view: Callable[[Any], Any]
) -> tuple[Any, Any] | None:
    """Return both replies if they differ."""
    expected, got = (anonymous(view(ask(stage, command, **arguments))) for stage in (stock, ours))
    return None if expected == got else (expected, got)


def _compare_soon(*question: Any) -> tuple[Any, Any] | None:
    """Ask again until the replies agree; return them if they never do."""
    with suppress(AssertionError):
        eventually(lambda: _compare(*question) is None, deadline_s=10)
        return None
    return _compare(*question)
