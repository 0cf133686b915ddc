"""``amqp``: declare, bind, publish and fetch by hand, as one command or in a session of its own."""

from __future__ import annotations

import pprint
import shlex
import sys
from typing import TYPE_CHECKING, Any

import click

from pyworker.cli.commands import AppGroup, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyworker.cli.context import CliContext
    from pyworker.cli.option_types import Function

_NOT_CONNECTED = "Not connected to broker. Please retry..."
_LEAVE = frozenset((":q", ":quit", ":exit", "quit", "exit"))
_HELP = frozenset(("help", "?", ":h", ":help"))


class BrokerSession:
    """A connection whose errors are shown and survived.

    Args:
        context: where everything is written.
    """

    def __init__(self, context: CliContext) -> None:
        self.context = context
        self._connection: Any = context.operations().connection()
        self._channel: Any = None
        self.connect()

    @property
    def is_connected(self) -> bool:
        """Whether the last attempt to connect did it."""
        return self._channel is not None

    def connect(self) -> None:
        """Connect, anew if need be; says so."""
        self._connection.close()
        self._channel = None
        self.context.echo(f"-> connecting to {self._connection.as_uri()}.")
        try:
            self._connection.connect()
            self._channel = self._connection.default_channel
        except Exception as error:
            self._complain(error)
        else:
            self.context.secho("-> connected.", fg="green", bold=True)

    def run(self, action: Callable[[Any], Any]) -> None:
        """Do something with the channel, then say what came of it; an error costs the connection."""
        if self._channel is None:
            self._complain(_NOT_CONNECTED)
            self.connect()
            return
        try:
            answer = action(self._channel)
        except Exception as error:
            self._complain(error)
            self.connect()
            return
        if isinstance(answer, str):
            self.context.secho(answer, fg="cyan", bold=True)
        elif answer is not None:
            self.context.echo(pprint.pformat(answer))
        self.context.echo(self.context.OK)

    def _complain(self, error: object) -> None:
        self.context.error(f"{self.context.ERROR}: {error}")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


_pass_session = click.make_pass_decorator(BrokerSession)


@click.group(cls=AppGroup, invoke_without_command=True)
@click.pass_context
def amqp(ctx: click.Context, /) -> None:
    """Talk to the broker by hand.

    Works with every broker; those that keep declarations in memory forget them at the end of the session.
    Without a command a session begins, in which `help` lists the commands and `quit` leaves.
    """
    session = BrokerSession(ctx.obj)
    ctx.obj = session
    ctx.call_on_close(session.close)
    if ctx.invoked_subcommand is None:
        _converse(ctx)
    elif ctx.invoked_subcommand != "repl" and not session.is_connected:
        raise Unavailable("The message broker cannot be reached; is it running?")


@amqp.command()
@click.pass_context
def repl(ctx: click.Context, /) -> None:
    """Begin a session."""
    assert ctx.parent is not None
    _converse(ctx.parent)


def _converse(ctx: click.Context) -> None:
    """Read commands, one a line, until the input ends."""
    _complete_words(sorted(amqp.commands))
    is_terminal = sys.stdin.isatty()
    while True:
        try:
            line = input("> ") if is_terminal else sys.stdin.readline()
        except (EOFError, KeyboardInterrupt):
            return
        if not line and not is_terminal:
            return
        if not _obey(ctx, line.strip()):
            return


def _obey(ctx: click.Context, line: str) -> bool:
    """Run a line; false if it ends the session."""
    if line in _LEAVE:
        return False
    if line in _HELP:
        click.echo(ctx.get_help())
        return True
    try:
        words = shlex.split(line)
        if words and words[0] != "repl":
            name, command, rest = amqp.resolve_command(ctx, words)
            if command is not None:
                with command.make_context(name, rest, parent=ctx) as inner:
                    command.invoke(inner)
    except click.ClickException as error:
        error.show()
    except ValueError as error:
        click.echo(f"Error: {error}", err=True)  # a quote without its end
    except click.exceptions.Exit:
        pass
    return True


def _complete_words(words: list[str]) -> None:
    try:
        import readline
    except ImportError:
        return

    def complete(text: str, state: int) -> str | None:
        found = [word for word in words if word.startswith(text)]
        return found[state] if state < len(found) else None

    readline.set_completer(complete)
    readline.set_completer_delims(" ")
    readline.parse_and_bind("tab: complete")


def _flag(name: str) -> Callable[[Function], Function]:
    return click.argument(name, type=bool, default=False)


@amqp.command("exchange.declare")
@click.argument("exchange")
@click.argument("type")
@_flag("passive")
@_flag("durable")
@_flag("auto_delete")
@_pass_session
def _exchange_declare(session: BrokerSession, /, **given: Any) -> None:
    """Declare an exchange."""
    session.run(lambda channel: _nothing(channel.exchange_declare(**given)))


@amqp.command("exchange.delete")
@click.argument("exchange")
@_flag("if_unused")
@_pass_session
def _exchange_delete(session: BrokerSession, /, **given: Any) -> None:
    """Delete an exchange."""
    session.run(lambda channel: _nothing(channel.exchange_delete(**given)))


@amqp.command("queue.bind")
@click.argument("queue")
@click.argument("exchange")
@click.argument("routing_key")
@_pass_session
def _queue_bind(session: BrokerSession, /, **given: Any) -> None:
    """Bind a queue to an exchange."""
    session.run(lambda channel: _nothing(channel.queue_bind(**given)))


@amqp.command("queue.declare")
@click.argument("queue")
@_flag("passive")
@_flag("durable")
@_flag("auto_delete")
@_pass_session
def _queue_declare(session: BrokerSession, /, **given: Any) -> None:
    """Declare a queue; says how much is in it."""
    session.run(lambda channel: "queue:{} messages:{} consumers:{}".format(*channel.queue_declare(**given)))


@amqp.command("queue.delete")
@click.argument("queue")
@_flag("if_unused")
@_flag("if_empty")
@_pass_session
def _queue_delete(session: BrokerSession, /, **given: Any) -> None:
    """Delete a queue with what is in it."""
    session.run(lambda channel: f"{channel.queue_delete(**given)} messages deleted.")


@amqp.command("queue.purge")
@click.argument("queue")
@_pass_session
def _queue_purge(session: BrokerSession, /, queue: str) -> None:
    """Empty a queue."""
    session.run(lambda channel: f"{channel.queue_purge(queue=queue)} messages deleted.")


@amqp.command("basic.get")
@click.argument("queue")
@_flag("no_ack")
@_pass_session
def _basic_get(session: BrokerSession, /, queue: str, no_ack: bool) -> None:
    """Fetch a message."""

    def fetch(channel: Any) -> Any:
        message = channel.basic_get(queue, no_ack=no_ack)
        if message is None:
            return "No messages in queue. basic.publish something."
        return {"body": message.body, "properties": message.properties, "delivery_info": message.delivery_info}

    session.run(fetch)


@amqp.command("basic.publish")
@click.argument("msg")
@click.argument("exchange")
@click.argument("routing_key")
@_flag("mandatory")
@_flag("immediate")
@_pass_session
def _basic_publish(session: BrokerSession, /, msg: str, exchange: str, routing_key: str, **given: Any) -> None:
    """Publish a message."""

    def publish(channel: Any) -> None:
        # In the transport's own form: a plain text is not a message everywhere.
        message = channel.prepare_message(msg, content_type="text/plain", content_encoding="utf-8")
        channel.basic_publish(message, exchange=exchange, routing_key=routing_key, **given)

    session.run(publish)


@amqp.command("basic.ack")
@click.argument("delivery_tag")
@_pass_session
def _basic_ack(session: BrokerSession, /, delivery_tag: str) -> None:
    """Acknowledge a message fetched in this session."""
    tag: Any = int(delivery_tag) if delivery_tag.isdigit() else delivery_tag
    session.run(lambda channel: _nothing(channel.basic_ack(tag)))


def _nothing(_answer: object) -> None:
    """Declarations have no answer worth showing."""
