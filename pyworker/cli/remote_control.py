"""``inspect``, ``control`` and ``status``: ask the workers, and tell them what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from kombu.utils.json import dumps

from pyworker.cli.commands import AppCommand, Unavailable, option_group, told_when_unavailable
from pyworker.cli.option_types import COMMA_SEPARATED
from pyworker.cli.replies import count, indent, pretty

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyworker.cli.context import CliContext
    from pyworker.cli.option_types import Function
    from pyworker.operations.protocol import RemoteCommand

_option = option_group("Remote Control Options")
_NOBODY = "No nodes replied within time constraint"


def _remote_options(function: Function) -> Function:
    for decorate in (
        _option("-j", "--json", "as_json", is_flag=True, help="Print the replies as JSON."),
        _option("-d", "--destination", type=COMMA_SEPARATED, help="Names of the nodes to ask, separated by commas."),
        _option("-t", "--timeout", type=float, default=1.0, help="Seconds to wait for replies."),
    ):
        function = decorate(function)
    return function


def _commands(ctx: click.Context, kind: str) -> dict[str, RemoteCommand]:
    commands = ctx.obj.operations().remote_commands()
    return {name: command for name, command in sorted(commands.items()) if command.kind == kind}


def _list_option(kind: str) -> Callable[[Function], Function]:
    def show(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
        if not value or ctx.resilient_parsing:
            return
        formatter = click.HelpFormatter()
        rows = [
            (f"{command.name} {command.signature}".strip(), command.help) for command in _commands(ctx, kind).values()
        ]
        with formatter.section(f"{kind.capitalize()} Commands"):
            formatter.write_dl(rows)
        ctx.obj.echo(formatter.getvalue(), nl=False)
        ctx.exit()

    return click.option(
        "--list", is_flag=True, expose_value=False, is_eager=True, callback=show, help=f"List the {kind} commands."
    )


def _known(ctx: click.Context, kind: str, name: str) -> RemoteCommand:
    commands = _commands(ctx, kind)
    if name not in commands:
        raise click.UsageError(f"Command {name} not recognized. Available {kind} commands: {', '.join(commands)}")
    return commands[name]


def compile_arguments(command: RemoteCommand, given: Sequence[str]) -> dict[str, Any]:
    """The arguments of a remote command from the words after its name.

    Words that no argument is there for are an error, after a command without any a warning: Celery's does what it is
    asked to there, which scripts may rely on.

    Raises:
        click.UsageError: there are too many, or one has the wrong type.
    """
    arguments: dict[str, Any] = {}
    for (name, convert), text in zip(command.arguments, given, strict=False):
        try:
            arguments[name] = convert(text) if convert is not None else text
        except (TypeError, ValueError) as error:
            raise click.UsageError(f"Command {command.name!r}: {name} cannot be {text!r}: {error}") from error
    rest = list(given[len(command.arguments) :])
    if command.variadic:
        arguments[command.variadic] = rest
    elif rest and command.arguments:
        raise click.UsageError(f"Command {command.name!r} takes arguments: {command.signature}")
    elif rest:
        click.echo(f"Warning: Command {command.name!r} takes no arguments, ignored: {' '.join(rest)}", err=True)
    return arguments


def _printer(context: CliContext, *, shows_body: bool) -> Callable[[Mapping[str, Any]], None]:
    def show(reply: Mapping[str, Any]) -> None:
        for node, answer in reply.items():
            word, text = pretty(answer, is_colourful=not context.no_color)
            word = context.OK if word == "OK" else context.ERROR
            arrow = "" if context.quiet else f"{context.style('->', fg='white', bold=True)} "
            context.echo(f"{arrow} {context.style(f'{node}: ', fg='cyan', bold=True)}{word}")
            if shows_body:
                context.echo(indent(text))

    return show


@click.command(cls=AppCommand)
@_remote_options
@click.pass_context
def status(ctx: click.Context, /, timeout: float, destination: Sequence[str] | None, as_json: bool) -> None:
    """Show which workers are online."""
    context: CliContext = ctx.obj
    callback = None if as_json else _printer(context, shows_body=False)
    with told_when_unavailable("status"):
        control = context.operations().control
        replies = control.inspect(timeout=timeout, destination=destination, callback=callback).ping()
    if not replies:
        raise Unavailable(_NOBODY)
    if as_json:
        context.echo(dumps(replies))
    context.echo(f"\n{count(len(replies), 'node')} online.")


@click.command(cls=AppCommand, context_settings={"allow_extra_args": True})
@click.argument("command")
@_list_option("inspect")
@_remote_options
@click.pass_context
def inspect(
    ctx: click.Context, /, command: str, timeout: float, destination: Sequence[str] | None, as_json: bool
) -> None:
    """Ask the workers something: COMMAND is one of those that --list shows."""
    context: CliContext = ctx.obj
    arguments = compile_arguments(_known(ctx, "inspect", command), ctx.args)
    callback = None if as_json else _printer(context, shows_body=True)
    with told_when_unavailable(f"inspect {command}"):
        control = context.operations().control
        asked = control.inspect(timeout=timeout, destination=destination, callback=callback)
        replies = asked._request(command, **arguments)
    if not replies:
        raise Unavailable(_NOBODY)
    if as_json:
        context.echo(dumps(replies))
    elif not context.quiet:
        context.echo(f"\n{count(len(replies), 'node')} online.")


@click.command(cls=AppCommand, context_settings={"allow_extra_args": True})
@click.argument("command")
@_list_option("control")
@_remote_options
@click.pass_context
def control(
    ctx: click.Context, /, command: str, timeout: float, destination: Sequence[str] | None, as_json: bool
) -> None:
    """Tell the workers to do something: COMMAND is one of those that --list shows."""
    context: CliContext = ctx.obj
    arguments = compile_arguments(_known(ctx, "control", command), ctx.args)
    callback = None if as_json else _printer(context, shows_body=True)
    with told_when_unavailable(f"control {command}"):
        replies = context.operations().control.broadcast(
            command, timeout=timeout, destination=destination, callback=callback, reply=True, arguments=arguments
        )
    if not replies:
        raise Unavailable(_NOBODY)
    if as_json:
        context.echo(dumps(replies))
