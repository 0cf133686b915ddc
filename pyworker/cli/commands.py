"""What all commands on an application have in common: the application's own options, errors with exit codes."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from kombu.exceptions import OperationalError

from pyworker.cli.context import CliContext
from pyworker.cli.option_types import GroupedCommand, GroupedOption, write_groups
from pyworker.compat import announce_preload_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pyworker.cli.option_types import Function


class Unavailable(click.ClickException):
    """The broker or the workers did not answer."""

    exit_code = os.EX_UNAVAILABLE


def preload_options(ctx: click.Context) -> list[click.Parameter]:
    """The options that the application declares for every command."""
    context = ctx.find_object(CliContext)
    app = context.named_app if context is not None else None
    user_options: Mapping[str, Any] = getattr(app, "user_options", None) or {}
    return list(user_options.get("preload", ()))


class _PreloadMixin(click.Command):
    """Adds the application's options and tells it their values, which the command itself does not get."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The command's options and the application's."""
        return [*super().get_params(ctx), *preload_options(ctx)]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; explain where ``-A`` belongs if it is found here."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            name = error.option_name
            if name not in ("-A", "--app"):
                raise
            command = ctx.info_name or "COMMAND"
            advice = f"No such option: {name}. It is a global option: pyworker {name} celeryapp {command} <...>"
            # Not a NoSuchOption: celery.bin replaces how that one is shown, for its own context object.
            raise click.UsageError(advice, ctx=ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Tell the application its options, then run."""
        names = [option.name for option in preload_options(ctx)]
        given = {name: ctx.params.pop(name) for name in names if name is not None and name in ctx.params}
        if given:
            announce_preload_options(ctx.find_object(CliContext).app, self.callback, given)  # type: ignore[union-attr]
        return super().invoke(ctx)


class AppCommand(_PreloadMixin, GroupedCommand):
    """A command on an application."""


class AppGroup(_PreloadMixin, click.Group):
    """A group of commands on an application."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options by group, then the commands."""
        write_groups(self.get_params(ctx), ctx, formatter)
        self.format_commands(ctx, formatter)


def option_group(heading: str) -> Callable[..., Callable[[Function], Function]]:
    """A decorator of options under one heading."""

    def option(*names: str, **settings: Any) -> Callable[[Function], Function]:
        return click.option(*names, cls=GroupedOption, help_group=heading, **settings)

    return option


@contextmanager
def told_when_unavailable(command: str) -> Iterator[None]:
    """Turn whatever keeps a remote command from working into a message and exit code 69.

    Args:
        command: its name, for the message.
    """
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except OperationalError as error:
        raise Unavailable(
            f"The message broker cannot be reached; is it running, and are the settings right? {error}"
        ) from error
    except Exception as error:
        raise Unavailable(f"The command {command} cannot be run: {error}") from error
