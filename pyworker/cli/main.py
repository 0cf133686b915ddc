"""The ``pyworker`` command and its global options, those of ``celery``."""

from __future__ import annotations

import os
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from pyworker.cli.context import CliContext
from pyworker.cli.option_types import Function, GroupedOption, write_groups
from pyworker.cli.plug_ins import load_plug_in, plug_ins
from pyworker.cli.worker import worker
from pyworker.compat import is_own_application

if TYPE_CHECKING:
    from collections.abc import Callable

#: Commands of ``celery`` that stay there for now.
_CELERY_COMMANDS = {"beat": "periodic tasks are not sent by pyworker yet"}
#: Commands loaded when they are asked for. A worker is a copy of this program in every child; what the
#: others import (rich, drivers of other libraries) must not be in it.
_LOADED_ON_DEMAND = {
    "amqp": ("pyworker.cli.amqp_shell", "amqp"),
    "bench": ("pyworker.cli.bench", "bench"),
    "call": ("pyworker.cli.call", "call"),
    "check": ("pyworker.cli.check", "check"),
    "control": ("pyworker.cli.remote_control", "control"),
    "demo": ("pyworker.cli.demo", "demo"),
    "events": ("pyworker.cli.events", "events"),
    "graph": ("pyworker.cli.graph", "graph"),
    "inspect": ("pyworker.cli.remote_control", "inspect"),
    "list": ("pyworker.cli.bindings", "list_"),
    "logtool": ("pyworker.cli.logtool", "logtool"),
    "migrate": ("pyworker.cli.migrate", "migrate"),
    "multi": ("pyworker.cli.multi", "multi"),
    "purge": ("pyworker.cli.purge", "purge"),
    "report": ("pyworker.cli.report", "report"),
    "result": ("pyworker.cli.result", "result"),
    "shell": ("pyworker.cli.shell", "shell"),
    "sqlite": ("pyworker.cli.sqlite", "sqlite"),
    "status": ("pyworker.cli.remote_control", "status"),
    "upgrade": ("pyworker.cli.upgrade", "upgrade"),
}
#: How alike a word must be to a command's name to be offered instead.
_LIKENESS = 0.5


class PyworkerGroup(click.Group):
    """The group of commands; knows what people type out of habit."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options by group, then the commands."""
        write_groups(self.get_params(ctx), ctx, formatter)
        self.format_commands(ctx, formatter)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, those of commands not loaded yet and of plug-ins too."""
        return sorted({*super().list_commands(ctx), *_LOADED_ON_DEMAND, *plug_ins()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, loading its module if need be."""
        if cmd_name not in self.commands:
            if cmd_name in _LOADED_ON_DEMAND:
                module, attribute = _LOADED_ON_DEMAND[cmd_name]
                self.add_command(getattr(import_module(module), attribute), cmd_name)
            elif cmd_name in plug_ins():
                self.add_command(load_plug_in(plug_ins()[cmd_name]), cmd_name)
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; say where it is if ``celery`` has it, and what was meant if it is misspelt."""
        name = args[0] if args else ""
        if name in _CELERY_COMMANDS:
            ctx.fail(f"No such command {name!r} here: {_CELERY_COMMANDS[name]}. Use `celery {name}`.")
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            alike = get_close_matches(name, self.list_commands(ctx), cutoff=_LIKENESS)
            hint = "".join(f"\n    {each}" for each in alike)
            ctx.fail(f"No such command {name!r}." + (f"\n\nDid you mean one of these?{hint}" if alike else ""))
        return super().resolve_command(ctx, args)


def _change_directory(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    if value is not None:
        try:
            os.chdir(value)
        except OSError as error:
            raise click.BadParameter(f"{str(value)!r}: {error.strerror}", ctx=ctx, param=param) from error
    return value


def _show_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"pyworker {package_version('pyworker')}")
        ctx.exit()


def _global(*names: str, **settings: Any) -> Callable[[Function], Function]:
    return click.option(*names, cls=GroupedOption, help_group="Global Options", **settings)


@click.group(cls=PyworkerGroup, invoke_without_command=True)
@_global(
    "-A",
    "--app",
    envvar="APP",
    type=click.UNPROCESSED,
    help="Application: a module, a package with a module celery, or module:attribute.",
)
@_global("-b", "--broker", envvar="BROKER_URL", help="URL of the broker, instead of the application's.")
@_global("--result-backend", envvar="RESULT_BACKEND", help="URL of the result store, instead of the application's.")
@_global("--loader", envvar="LOADER", help="Class of a custom loader.")
@_global("--config", envvar="CONFIG_MODULE", help="Name of the configuration module.")
@_global("--workdir", type=Path, callback=_change_directory, is_eager=True, help="Change to this directory first.")
@_global("-C", "--no-color", envvar="NO_COLOR", is_flag=True, help="No colours.")
@_global("-q", "--quiet", is_flag=True, help="No banner.")
@_global("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version.")
@_global("--skip-checks", envvar="SKIP_CHECKS", is_flag=True, help="Skip Django's checks at start.")
@click.pass_context
def cli(ctx: click.Context, /, **options: Any) -> None:
    """Run the tasks of a Celery application on a native engine."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
        ctx.exit()
    _export(options)
    workdir = options["workdir"]
    context = CliContext(
        no_color=options["no_color"], quiet=options["quiet"], workdir=None if workdir is None else str(workdir)
    )
    ctx.obj = context
    if options["app"] is not None:
        context.load(options["app"], ctx)
        if ctx.get_parameter_source("loader") is ParameterSource.COMMANDLINE and is_own_application(context.named_app):
            reason = "an application of pyworker loads its modules itself; name its settings' module with --config"
            raise click.BadParameter(reason, ctx=ctx, param_hint="--loader")


def _export(options: dict[str, Any]) -> None:
    """Hand options to the application the way it reads them; it may not be imported yet."""
    for name, variable in (
        ("loader", "CELERY_LOADER"),
        ("broker", "CELERY_BROKER_URL"),
        ("result_backend", "CELERY_RESULT_BACKEND"),
        ("config", "CELERY_CONFIG_MODULE"),
    ):
        if options[name]:
            os.environ[variable] = options[name]
    if options["skip_checks"]:
        os.environ["CELERY_SKIP_CHECKS"] = "true"


cli.add_command(worker)


def main() -> None:
    """Entry point of the ``pyworker`` script."""
    # Celery's own prefix, so that a deployment's CELERY_WORKER_CONCURRENCY and the like keep working.
    cli(prog_name="pyworker", auto_envvar_prefix="CELERY")
