"""``events``: watch what workers and tasks do, in the terminal, line by line, or through a camera."""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from pyworker.cli.commands import AppCommand, option_group, told_when_unavailable
from pyworker.cli.detach import Detachment, detach
from pyworker.cli.option_types import LOG_LEVEL
from pyworker.events.dumper import Dumper
from pyworker.operations.protocol import Snapshots
from pyworker.worker.node_name import expand_node
from pyworker.worker.pidfile import EXIT_CANNOT_CREATE, PidfileLocked
from pyworker.worker.privileges import PrivilegesError, drop_privileges, parse_umask

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

    from pyworker.cli.context import CliContext
    from pyworker.operations.protocol import Operations

_dumper, _snapshot, _daemon = (
    option_group("Dumper"), option_group("Snapshot"), option_group("Daemonization Options"),
)  # fmt: skip
_NO_TEXTUAL = (
    "the terminal monitor needs textual, which is not installed: pip install 'pyworker[tui]'; `events --dump` works "
    "without"
)


@click.command(cls=AppCommand)
@_dumper("--dump", is_flag=True, help="Print events line by line.")
@_snapshot("-c", "--camera", help="Class of a camera, as module.Class; it gets the state at intervals.")
@_snapshot("--detach", is_flag=True, help="Run the camera in the background, away from the terminal.")
@_snapshot("-d", "short", is_flag=True, help="With --camera the same as --detach, else as --dump.")
@_snapshot("-F", "--frequency", "--freq", type=float, default=1.0, help="Seconds between two pictures.")
@_snapshot("-r", "--maxrate", help="At most so many pictures, such as 10/m.")
@_snapshot("-l", "--loglevel", default="WARNING", type=LOG_LEVEL, help="Logging level.")
@_daemon("-f", "--logfile", help="Log file; the default is stderr.")
@_daemon("--pidfile", help="Process id file; none by default.")
@_daemon("--uid", help="User to become.")
@_daemon("--gid", help="Group to become.")
@_daemon("--umask", help="Mask of new files and directories.")
@_daemon("--executable", help="Python interpreter to run in the background, with --detach.")
@click.pass_context
def events(ctx: click.Context, /, **given: Any) -> None:
    """Watch the events of the workers; they send them with -E or after `control enable_events`.

    Without an option a terminal monitor shows workers and tasks, their results and tracebacks, and revokes tasks or
    changes rate limits.
    """
    context: CliContext = ctx.obj
    if given["dump"] or (given["short"] and not given["camera"]):
        _dump(context)
    elif given["camera"]:
        ctx.exit(_take_snapshots(context, given))
    else:
        _monitor(context)


# -- the terminal monitor


def _monitor(context: CliContext) -> None:
    try:
        # By name: textual is there only if it was asked for.
        monitor = import_module("pyworker.events.monitor.app")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "textual":
            raise
        raise click.UsageError(_NO_TEXTUAL) from None
    with told_when_unavailable("events"):
        monitor.Monitor(context.operations()).run()


# -- line by line


def _dump(context: CliContext) -> None:
    operations = context.operations()
    dumper = Dumper(say=context.echo)
    dumper.say("-> evdump: starting capture...")
    with told_when_unavailable("events"):
        try:
            _capture(operations, dumper)
        except (KeyboardInterrupt, SystemExit):
            return


def _capture(operations: Operations, dumper: Dumper) -> None:
    connection = operations.reading_connection()
    try:
        while True:
            connection.ensure_connection(
                lambda error, wait_s: dumper.say(
                    f"-> Cannot connect to {connection.as_uri()}: {error}.\nTrying again in {wait_s:g} seconds\n"
                )
            )
            try:
                operations.events.Receiver(connection, handlers={"*": dumper.on_event}).capture()
            except (*connection.connection_errors, *connection.channel_errors):
                dumper.say("-> Connection lost, attempting reconnect")
                connection.close()
    finally:
        connection.close()


# -- a camera


def _take_snapshots(context: CliContext, given: Mapping[str, Any]) -> int:
    try:
        logfile, pidfile = (expand_node(given[name], "") if given[name] else None for name in ("logfile", "pidfile"))
        user, group, umask = given["uid"], given["gid"], given["umask"]
        if given["detach"] or given["short"]:
            plan = Detachment(
                arguments=sys.argv[1:], logfile=logfile, pidfile=pidfile, user=user, group=group, umask=umask,
                executable=given["executable"],
            )  # fmt: skip
            return detach(plan)
        drop_privileges(user, group)
        if umask:
            os.umask(parse_umask(str(umask)))
    except (PrivilegesError, OSError, ValueError) as error:
        context.echo_error(str(error))
        return 1
    snapshots = Snapshots(
        camera=given["camera"], frequency_s=given["frequency"], maxrate=given["maxrate"], loglevel=given["loglevel"],
        logfile=logfile, pidfile=pidfile,
    )  # fmt: skip
    # The last picture is taken and the pid file goes however the process is asked to end.
    signal.signal(signal.SIGTERM, _leave)
    with told_when_unavailable("events"):
        try:
            context.operations().take_snapshots(snapshots)
        except PidfileLocked as error:
            context.echo_error(str(error))
            return EXIT_CANNOT_CREATE
    return 0


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)
