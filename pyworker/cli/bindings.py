"""``list bindings``: which queues are bound to which exchanges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from kombu import Consumer

from pyworker.cli.commands import AppCommand, AppGroup, told_when_unavailable

if TYPE_CHECKING:
    from pyworker.cli.context import CliContext

_ROW = "{0:<28} {1:<28} {2}"


@click.group(name="list", cls=AppGroup)
def list_() -> None:
    """Show what the broker knows.

    RabbitMQ answers through its management plug-in alone.
    """


@list_.command(cls=AppCommand)
@click.pass_context
def bindings(ctx: click.Context, /) -> None:
    """Show the bindings of queues."""
    context: CliContext = ctx.obj
    operations = context.operations()
    with told_when_unavailable("list bindings"), operations.connection() as connection:
        with connection.channel() as channel:
            Consumer(channel, operations.queues(), auto_declare=False).declare()
        try:
            found = list(connection.manager.get_bindings())
        except NotImplementedError:
            raise click.UsageError("Your transport cannot list bindings.") from None
    context.echo(_ROW.format("Queue", "Exchange", "Routing Key"))
    context.echo(_ROW.format("-" * 16, "-" * 16, "-" * 16))
    for binding in found:
        context.echo(_ROW.format(binding["destination"], binding["source"], binding["routing_key"]))
