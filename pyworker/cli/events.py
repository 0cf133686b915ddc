"""``events --dump``: print the events of the workers as they come."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click
from kombu import Consumer, Exchange, Queue
from kombu.utils.uuid import uuid

from pyworker.cli.commands import AppCommand, option_group, told_when_unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyworker.cli.context import CliContext
    from pyworker.operations.protocol import Operations

_dumper = option_group("Dumper")
_WORKER_EVENTS = {"worker-offline": "shutdown", "worker-online": "started", "worker-heartbeat": "heartbeat"}
#: How many tasks' names are kept for the events that do not carry them.
_TASKS_KEPT = 4095
_STEP_S = 1.0
#: Transports whose fanout is the only exchange that copies; topics elsewhere.
_FANOUT_DRIVERS = frozenset(("redis", "gcpubsub"))


@click.command(cls=AppCommand)
@_dumper("-d", "--dump", is_flag=True, help="Print events line by line.")
@click.pass_context
def events(ctx: click.Context, /, dump: bool) -> None:
    """Watch the events of the workers; they send them with -E or after `control enable_events`."""
    context: CliContext = ctx.obj
    if not dump:
        raise click.UsageError("only --dump is here so far; `celery events` shows the terminal monitor")
    operations = context.operations()
    dumper = Dumper(context.echo)
    context.echo("-> evdump: starting capture...")
    with told_when_unavailable("events"):
        try:
            _capture(operations, dumper, context)
        except (KeyboardInterrupt, SystemExit):
            return


def _capture(operations: Operations, dumper: Dumper, context: CliContext) -> None:
    connection = operations.connection()
    try:
        while True:
            connection.ensure_connection(
                lambda error, wait_s: context.echo(
                    f"-> Cannot connect to {connection.as_uri()}: {error}.\nTrying again in {wait_s:g} seconds\n"
                )
            )
            try:
                _drain(operations, connection, dumper)
            except (*connection.connection_errors, *connection.channel_errors):
                context.echo("-> Connection lost, attempting reconnect")
                connection.close()
    finally:
        connection.close()


def _drain(operations: Operations, connection: Any, dumper: Dumper) -> None:
    kind = "fanout" if connection.transport.driver_type in _FANOUT_DRIVERS else "topic"
    exchange = Exchange(operations.event_exchange(), type=kind)
    channel = connection.channel()
    name = f"celeryev.{uuid()}"
    queue = Queue(name, exchange, routing_key="#", auto_delete=True, durable=False, expires=60.0, message_ttl=5.0)

    def on_message(body: Any, _message: Any) -> None:
        for event in body if isinstance(body, list) else [body]:
            dumper.show(event)

    accept = {*(operations.accepted_content() or ()), "json"}
    with Consumer(channel, [queue], callbacks=[on_message], accept=accept, no_ack=True):
        while True:
            try:
                connection.drain_events(timeout=_STEP_S)
            except TimeoutError:
                connection.heartbeat_check()


class Dumper:
    """Turns events into lines.

    Args:
        say: writes a line.
    """

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._tasks: OrderedDict[str, str] = OrderedDict()

    def show(self, event: Mapping[str, Any]) -> None:
        """Write one event."""
        fields = dict(event)
        moment = datetime.fromtimestamp(fields.pop("timestamp"), timezone.utc)
        kind = str(fields.pop("type")).lower()
        node = fields.pop("hostname", "?")
        words = _WORKER_EVENTS.get(kind) or kind.replace("-", " ")
        task = f" {self._task(kind, fields)}" if kind.startswith("task-") else ""
        listed = ", ".join(f"{name}={fields[name]}" for name in sorted(fields))
        self._say(f"{node} [{moment}] {words}{':' if listed else ''}{task} {listed}")

    def _task(self, kind: str, fields: dict[str, Any]) -> str:
        task_id = fields.pop("uuid")
        if kind in ("task-received", "task-sent"):
            described = f"{fields.pop('name')}({task_id}) args={fields.pop('args')} kwargs={fields.pop('kwargs')}"
            self._tasks[task_id] = described
            if len(self._tasks) > _TASKS_KEPT:
                self._tasks.popitem(last=False)
        return self._tasks.get(task_id, "")
