"""``purge``: delete what waits in queues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pyworker.cli.commands import AppCommand, option_group, told_when_unavailable
from pyworker.cli.option_types import COMMA_SEPARATED
from pyworker.cli.replies import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyworker.cli.context import CliContext

_option = option_group("Purging Options")


@click.command(cls=AppCommand, context_settings={"allow_extra_args": True})
@_option("-f", "--force", is_flag=True, help="Do not ask first.")
@_option("-Q", "--queues", type=COMMA_SEPARATED, help="Queues to empty, separated by commas.")
@_option("-X", "--exclude-queues", type=COMMA_SEPARATED, help="Queues not to empty.")
@click.pass_context
def purge(
    ctx: click.Context, /, force: bool, queues: Sequence[str] | None, exclude_queues: Sequence[str] | None
) -> None:
    """Delete all messages that wait in the application's queues.

    They cannot be brought back.
    """
    context: CliContext = ctx.obj
    operations = context.operations()
    known = queues or [queue.name for queue in operations.queues()]
    names = sorted(set(known) - set(exclude_queues or ()))
    if not names:
        return
    noun = "queue" if len(names) == 1 else "queues"
    if not force:
        click.confirm(
            f"{context.style('WARNING', fg='red')}: This deletes all tasks from the {noun} {', '.join(names)}.\n"
            "         They cannot be brought back!\n\n(-f skips this question)\n"
            "Are you sure you want to delete all tasks?",
            abort=True,
        )
    with told_when_unavailable("purge"), operations.connection() as connection:
        messages = sum(_purge(connection, name) for name in names)
    if messages:
        context.echo(f"Purged {count(messages, 'message')} from {len(names)} known task {noun}.")
    else:
        context.echo(f"No messages purged from {len(names)} {noun}.")


def _purge(connection: Any, queue: str) -> int:
    try:
        return int(connection.default_channel.queue_purge(queue) or 0)
    except connection.channel_errors:
        return 0  # there is no such queue
