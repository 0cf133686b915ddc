"""The remote control commands of a pyworker node, as the command line offers them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyworker.operations.protocol import RemoteCommand

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Literal

_Arguments = tuple[tuple[str, "Callable[[str], Any] | None"], ...]
_TRUE = frozenset(("1", "true", "yes", "on"))
_FALSE = frozenset(("0", "false", "no", "off"))


def truth(text: str) -> bool:
    """Read a yes or no.

    Raises:
        ValueError: it is neither.
    """
    lowered = text.lower()
    if lowered not in _TRUE | _FALSE:
        raise ValueError(f"{text!r} is neither true nor false")
    return lowered in _TRUE


def _command(
    kind: Literal["inspect", "control"],
    name: str,
    text: str,
    signature: str = "",
    arguments: _Arguments = (),
    variadic: str | None = None,
) -> RemoteCommand:
    return RemoteCommand(name=name, kind=kind, help=text, signature=signature, arguments=arguments, variadic=variadic)


REMOTE_COMMANDS: Mapping[str, RemoteCommand] = {
    command.name: command
    for command in (
        _command("inspect", "active", "Tasks being run now."),
        _command("inspect", "active_queues", "Queues the worker consumes."),
        _command("inspect", "clock", "The logical clock."),
        _command("inspect", "conf", "Settings.", "[include_defaults=False]", (("with_defaults", truth),)),
        _command("inspect", "memdump", "The notes that memsample made.", "[n_samples=10]", (("samples", int),)),
        _command("inspect", "memsample", "Note the memory in use."),
        _command(
            "inspect",
            "objgraph",
            "Draw a graph of live objects, for hunting leaks.",
            "[object_type=Request] [num=200 [max_depth=10]]",
            (("type", str), ("num", int), ("max_depth", int)),
        ),
        _command("inspect", "ping", "Whether the worker is there."),
        _command("inspect", "query_task", "What is known about tasks.", "[id1 [id2 [... [idN]]]]", variadic="ids"),
        _command(
            "inspect",
            "registered",
            "Registered tasks, with attributes if some are named.",
            "[attr1 [attr2 [... [attrN]]]]",
            variadic="taskinfoitems",
        ),
        _command("inspect", "report", "What belongs into a bug report."),
        _command("inspect", "reserved", "Tasks held and not started, without those that wait for their time."),
        _command("inspect", "revoked", "Ids of revoked tasks."),
        _command("inspect", "scheduled", "Tasks that wait for their time."),
        _command("inspect", "stats", "Figures of the worker."),
        _command(
            "control",
            "add_consumer",
            "Consume a queue.",
            "<queue> [exchange [type [routing_key]]]",
            (("queue", str), ("exchange", str), ("exchange_type", str), ("routing_key", str)),
        ),
        _command(
            "control",
            "autoscale",
            "Set between how many children the pool moves.",
            "[max [min]]",
            (("max", int), ("min", int)),
        ),
        _command("control", "cancel_consumer", "Leave a queue alone.", "<queue>", (("queue", str),)),
        _command("control", "disable_events", "Send no task events."),
        _command("control", "election", "Hold an election."),
        _command("control", "enable_events", "Send task events."),
        _command("control", "heartbeat", "Send an event heartbeat now."),
        _command("control", "pool_grow", "Add children to the pool.", "[N=1]", (("n", int),)),
        _command("control", "pool_restart", "Replace the pool's children."),
        _command("control", "pool_shrink", "Take children from the pool.", "[N=1]", (("n", int),)),
        _command(
            "control",
            "rate_limit",
            "Set how often a task may start.",
            "<task_name> <rate_limit (e.g., 5/s | 5/m | 5/h)>",
            (("task_name", str), ("rate_limit", str)),
        ),
        _command("control", "revoke", "Do not start these tasks.", "[id1 [id2 [... [idN]]]]", variadic="task_id"),
        _command(
            "control",
            "revoke_by_stamped_headers",
            "Do not start tasks that carry these stamps.",
            "[key1=value1 [key2=value2 [... [keyN=valueN]]]]",
            variadic="headers",
        ),
        _command("control", "shutdown", "Shut the worker down, warm."),
        _command(
            "control",
            "terminate",
            "Revoke these tasks and end those that run, by a signal.",
            "<signal> [id1 [id2 [... [idN]]]]",
            (("signal", str),),
            "task_id",
        ),
        _command(
            "control",
            "time_limit",
            "Set a task's time limits.",
            "<task_name> <soft_secs> [hard_secs]",
            (("task_name", str), ("soft", float), ("hard", float)),
        ),
    )
}
