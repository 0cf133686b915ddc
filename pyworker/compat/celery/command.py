"""``celery pyworker ...``: our commands inside Celery's own command line, by the entry point ``celery.commands``.

Celery imports this module whenever its command line is used, so it stays light; and it is the place where the
environment variable ``PYWORKER`` is obeyed, before any worker exists.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import click

_TRUE = frozenset(("1", "true", "yes", "on"))


@click.command(
    "pyworker",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    add_help_option=False,
    help="Run a command of pyworker on this application, such as worker or check.",
    short_help="Run the tasks on pyworker's engine.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def pyworker(ctx: click.Context, /, arguments: tuple[str, ...], **_preload: Any) -> None:
    """Hand over to our command line, with the application that Celery's has found."""
    own = import_module("pyworker.cli.main").cli
    words = [*(["-C"] if ctx.obj.no_color else ()), *(["-q"] if ctx.obj.quiet else ()), *arguments]
    ctx.exit(own.main(words, prog_name="celery pyworker", default_map={"app": ctx.obj.app}))


if os.environ.get("PYWORKER", "").lower() in _TRUE:
    import_module("pyworker.compat.celery.takeover").install()
