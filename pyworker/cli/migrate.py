"""``migrate``: move waiting tasks from one broker to another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from kombu import Connection, Consumer, Exchange, Producer, Queue

from pyworker.cli.commands import AppCommand, option_group, told_when_unavailable
from pyworker.contrib.migrate import migrate_task, renamed, task_name_of

if TYPE_CHECKING:
    from pyworker.cli.context import CliContext
    from pyworker.operations.protocol import Operations

_option = option_group("Migration Options")


@click.command(cls=AppCommand)
@click.argument("source")
@click.argument("destination")
@_option("-n", "--limit", type=int, help="How many tasks to move at most.")
@_option("-t", "--timeout", type=float, default=1.0, help="Seconds to wait for a further task.")
@_option("-a", "--ack-messages", is_flag=True, help="Take the tasks out of the source; they stay there otherwise.")
@_option("-T", "--tasks", help="Names of tasks to move, separated by commas.")
@_option("-Q", "--queues", help="Queues to move, separated by commas; old:new renames one.")
@_option("-F", "--forever", is_flag=True, help="Go on until killed.")
@click.pass_context
def migrate(ctx: click.Context, /, source: str, destination: str, **options: Any) -> None:
    """Move tasks from the broker SOURCE to the broker DESTINATION.

    Keep a copy of the tasks until you have seen that it worked.
    """
    context: CliContext = ctx.obj
    with told_when_unavailable("migrate"), Connection(source) as old, Connection(destination) as new:
        Migration(context, old, new, **options).run()


class Migration:
    """One run.

    Args:
        context: where progress is written.
        source, destination: connections.
        limit: how many tasks to move at most.
        timeout: how long to wait for a further task, in seconds.
        ack_messages: whether tasks leave the source.
        tasks: names of tasks, separated by commas.
        queues: queues, separated by commas, ``old:new`` to rename.
        forever: whether to go on when none comes.
    """

    def __init__(
        self,
        context: CliContext,
        source: Any,
        destination: Any,
        *,
        limit: int | None,
        timeout: float,
        ack_messages: bool,
        tasks: str | None,
        queues: str | None,
        forever: bool,
    ) -> None:
        self._context = context
        self._source = source
        self._limit = limit
        self._timeout_s = timeout
        self._acks = ack_messages
        self._tasks = frozenset((tasks or "").split(",")) - {""}
        self._names = renamed(queues)
        self._forever = forever
        self._operations: Operations = context.operations()
        self._new_channel = destination.channel()
        self._producer = Producer(self._new_channel, auto_declare=False)
        self._count = 0
        self._total = 0

    def run(self) -> None:
        """Move until nothing comes any more or the limit is reached."""
        queues = self._operations.queues(list(self._names))
        channel = self._source.channel()
        consumer = Consumer(
            channel,
            [queue(channel) for queue in queues],
            accept=self._operations.accepted_content(),
            callbacks=[self._move],
        )
        for queue in queues:
            self._declare(queue, channel)
        with consumer:
            while self._limit is None or self._count < self._limit:
                try:
                    self._source.drain_events(timeout=self._timeout_s)
                except TimeoutError:
                    if not self._forever:
                        return

    def _declare(self, queue: Any, channel: Any) -> None:
        name = self._names.get(queue.name, queue.name)
        exchange = queue.exchange
        key = name if queue.routing_key == queue.name else queue.routing_key
        exchange_name = name if exchange.name == queue.name else exchange.name
        # Only what kombu itself would name; a queue's arguments may not suit the other broker.
        Queue(name, Exchange(exchange_name, type=exchange.type), routing_key=key)(self._new_channel).declare()
        try:
            self._total += queue(channel).queue_declare(passive=True).message_count or 0
        except self._source.channel_errors:
            pass  # not there: nothing to move

    def _move(self, body: Any, message: Any) -> None:
        if self._tasks and task_name_of(body, message) not in self._tasks:
            return
        if self._limit is not None and self._count >= self._limit:
            return
        migrate_task(self._producer, body, message, self._names)
        self._count += 1
        if self._acks:
            message.ack()
        self._context.echo(f"Migrating task {self._count}/{self._total or '?'}: {body}")
