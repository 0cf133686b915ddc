"""``shell``: a Python session with the application and its tasks at hand."""

from __future__ import annotations

import code
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from pyworker.cli.commands import AppCommand, option_group

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyworker.cli.context import CliContext

_option = option_group("Shell Options")


@click.command(cls=AppCommand, context_settings={"allow_extra_args": True})
@_option("-I", "--ipython", is_flag=True, help="IPython.")
@_option("-B", "--bpython", is_flag=True, help="bpython.")
@_option("--python", is_flag=True, help="Python's own shell.")
@_option("-T", "--without-tasks", is_flag=True, help="Leave the tasks out.")
@_option("--eventlet", is_flag=True, help="Patch the process with eventlet first.")
@_option("--gevent", is_flag=True, help="Patch the process with gevent first.")
@click.pass_context
def shell(
    ctx: click.Context,
    /,
    ipython: bool,
    bpython: bool,
    python: bool,
    without_tasks: bool,
    eventlet: bool,
    gevent: bool,
) -> None:
    """Start a Python session with the application at hand.

    It knows `app` and `celery` (the application), chain, group, chord and the other canvases, and every task by
    its function's name. Without an option it is IPython if that is installed, else bpython, else Python's own.
    """
    sys.path.insert(0, os.getcwd())
    context: CliContext = ctx.obj
    _patch(eventlet, gevent)
    operations = context.operations()
    operations.load_tasks()
    names = operations.symbols()
    if not without_tasks:
        tasks = (task for task in operations.tasks().values() if not task.name.startswith("celery."))
        names |= {getattr(task, "__name__", type(task).__name__): task for task in tasks}
    wanted = [name for name, is_wanted in (("python", python), ("bpython", bpython), ("ipython", ipython)) if is_wanted]
    for name in wanted[:1] or ("ipython", "bpython", "python"):
        try:
            start = _SHELLS[name](names)
        except ImportError:
            if wanted:
                raise click.ClickException(f"{name} is not installed") from None
            continue
        start()
        return


def _patch(eventlet: bool, gevent: bool) -> None:
    for name, is_wanted in (("eventlet", eventlet), ("gevent", gevent)):
        if not is_wanted:
            continue
        try:
            patcher = import_module(name if name == "eventlet" else "gevent.monkey")
        except ImportError:
            raise click.UsageError(f"{name} is not installed") from None
        (patcher.monkey_patch if name == "eventlet" else patcher.patch_all)()


def _ipython(names: dict[str, Any]) -> Callable[[], Any]:
    start = import_module("IPython").start_ipython
    return lambda: start(argv=[], user_ns=names)


def _bpython(names: dict[str, Any]) -> Callable[[], Any]:
    embed = import_module("bpython").embed
    return lambda: embed(names)


def _python(names: dict[str, Any]) -> Callable[[], Any]:
    try:
        import readline
        import rlcompleter
    except ImportError:
        pass
    else:
        readline.set_completer(rlcompleter.Completer(names).complete)
        readline.parse_and_bind("tab:complete")
    return lambda: code.interact(local=names)


_SHELLS = {"ipython": _ipython, "bpython": _bpython, "python": _python}
