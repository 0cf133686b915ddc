"""``call``: send a task by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from kombu.exceptions import OperationalError

from pyworker.cli.commands import AppCommand, Unavailable, option_group
from pyworker.cli.option_types import JSON_ARRAY, JSON_OBJECT, MOMENT, MOMENT_OR_SECONDS
from pyworker.exceptions import OperationalError as OwnOperationalError

if TYPE_CHECKING:
    from pyworker.cli.context import CliContext

_calling, _routing = option_group("Calling Options"), option_group("Routing Options")


@click.command(cls=AppCommand)
@click.argument("name")
@_calling("-a", "--args", type=JSON_ARRAY, default="[]", help="Positional arguments, a JSON array.")
@_calling("-k", "--kwargs", type=JSON_OBJECT, default="{}", help="Keyword arguments, a JSON object.")
@_calling("--eta", type=MOMENT, help="When to run it, in ISO 8601.")
@_calling("--countdown", type=float, help="Seconds until it shall run.")
@_calling("--expires", type=MOMENT_OR_SECONDS, help="When it is too late, in ISO 8601 or seconds from now.")
@_calling("--serializer", default="json", help="How the arguments are serialized.")
@_routing("--queue", help="Queue to send it to.")
@_routing("--exchange", help="Exchange to send it to.")
@_routing("--routing-key", help="Routing key to send it with.")
@click.pass_context
def call(ctx: click.Context, /, name: str, args: list[Any], kwargs: dict[str, Any], **options: Any) -> None:
    """Send the task NAME and print its id."""
    context: CliContext = ctx.obj
    try:
        result = context.app.send_task(name, args=args, kwargs=kwargs, **options)
    except (OperationalError, OwnOperationalError) as error:
        raise Unavailable(f"The message broker cannot be reached; is it running? {error}") from error
    context.echo(result.id)
