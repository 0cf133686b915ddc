"""``pyworker worker``: the options of ``celery worker``, same spelling, same meaning or a refusal."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from pyworker.cli.context import CliContext
from pyworker.cli.detach import Detachment, detach
from pyworker.cli.option_types import (
    COMMA_SEPARATED,
    CONCURRENCY,
    COUNT,
    HOSTNAME,
    LOG_LEVEL,
    POOL_BOUNDS,
    SECONDS,
    Function,
    GroupedCommand,
    GroupedOption,
)
from pyworker.compat import announce_preload_options, is_security_error
from pyworker.exceptions import ImproperlyConfigured, SecurityError
from pyworker.worker.node_name import expand_node
from pyworker.worker.options import canonical_pool, pool_refusal, refusal, solo_refusal
from pyworker.worker.privileges import PrivilegesError, drop_privileges, parse_umask
from pyworker.worker.probes import listening_address
from pyworker.worker.protocol import WorkerOptions
from pyworker.worker.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Options that fall back on a setting named after them, ``worker_pidfile`` and so on.
_DAEMON_OPTIONS = ("logfile", "pidfile", "uid", "gid", "umask", "executable")


class WorkerCommand(GroupedCommand):
    """The worker's command; adds the options that the application itself declares."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Our options and those of ``app.user_options``."""
        params = super().get_params(ctx)
        app = ctx.obj.named_app if isinstance(ctx.obj, CliContext) else None
        user_options: Mapping[str, Any] = getattr(app, "user_options", None) or {}
        return [*params, *user_options.get("worker", ()), *user_options.get("preload", ())]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; explain where ``-A`` belongs if it is found here."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            name = error.option_name
            if name not in ("-A", "--app"):
                raise
            advice = f"No such option: {name}. It is a global option: pyworker {name} celeryapp worker <...>"
            # Not a NoSuchOption: celery.bin replaces how that one is shown, for its own context object.
            raise click.UsageError(advice, ctx=ctx) from None


def _group(heading: str) -> Callable[..., Callable[[Function], Function]]:
    def option(*names: str, **settings: Any) -> Callable[[Function], Function]:
        return click.option(*names, cls=GroupedOption, help_group=heading, **settings)

    return option


_worker, _pool, _queue = _group("Worker Options"), _group("Pool Options"), _group("Queue Options")
_feature, _beat, _daemon = _group("Features"), _group("Embedded Beat Options"), _group("Daemonization Options")


@click.command(cls=WorkerCommand, context_settings={"allow_extra_args": True})
@_worker(
    "-n",
    "--hostname",
    default="",
    type=HOSTNAME,
    help="Name of this node, such as w1@%h. Expands %h (host name), %n (its first part), %d (its domain).",
)
@_worker("-D", "--detach", is_flag=True, default=False, help="Run in the background, away from the terminal.")
@_worker(
    "-S",
    "--statedb",
    type=click.Path(),
    help="File that keeps the revoked ids over a restart; .db may be appended to its name.",
)
@_worker("-l", "--loglevel", default="WARNING", type=LOG_LEVEL, help="Level of logging.")
@_worker(
    "-O",
    "--optimization",
    default="default",
    type=click.Choice(("default", "fair")),
    help="Children always take the next task when they are free, which is what fair means; both are the same here.",
)
@_worker("--prefetch-multiplier", type=COUNT, metavar="<prefetch multiplier>", help="Messages reserved per child.")
@_worker(
    "--disable-prefetch",
    is_flag=True,
    default=None,
    help="Fetch a task only when a child is free.",
)
@_pool(
    "-c",
    "--concurrency",
    type=CONCURRENCY,
    metavar="<concurrency>",
    help="Number of children; the default is the number of processors, auto respects the container's quota.",
)
@_pool("-P", "--pool", default="prefork", help="Pool: prefork or solo.")
@_pool("-E", "--task-events", "--events", is_flag=True, default=None, help="Send task events.")
@_pool("--time-limit", type=SECONDS, help="Hard time limit of a task, in seconds.")
@_pool("--soft-time-limit", type=SECONDS, help="Soft time limit of a task, in seconds.")
@_pool("--max-tasks-per-child", type=COUNT, help="Tasks after which a child is replaced.")
@_pool(
    "--pool-start-method",
    type=click.Choice(("fork", "spawn")),
    help="Only fork: children are forked by a server without threads.",
)
@_pool("--max-memory-per-child", type=COUNT, help="Resident memory in KiB after which a child is replaced.")
@_queue("--purge", "--discard", is_flag=True, help="Delete all waiting tasks first.")
@_queue("--queues", "-Q", type=COMMA_SEPARATED, help="Queues to consume, separated by commas.")
@_queue("--exclude-queues", "-X", type=COMMA_SEPARATED, help="Queues not to consume.")
@_queue("--include", "-I", type=COMMA_SEPARATED, help="Further modules to import.")
@_feature("--without-gossip", is_flag=True, help="Do not listen to the events of the other workers.")
@_feature("--without-mingle", is_flag=True, help="Do not ask the other workers for revoked tasks at the start.")
@_feature("--without-heartbeat", is_flag=True, help="Do not send the worker's events: online, heartbeat, offline.")
@_feature("--heartbeat-interval", type=COUNT, help="Seconds between heartbeats; 2 without it.")
@_feature("--autoscale", type=POOL_BOUNDS, metavar="MAX,MIN", help="Grow and shrink the pool with the load.")
@_feature(
    "--probes",
    metavar="[HOST:]PORT",
    help="Answer /livez, /readyz and /metrics (Prometheus) there; the host is this machine alone unless given.",
)
@_beat("-B", "--beat", is_flag=True, help="Refused: send periodic tasks from this process.")
@_beat("-s", "--schedule-filename", "--schedule", help="Refused, with -B.")
@_beat("--scheduler", help="Refused, with -B.")
@_daemon("--logfile", "-f", help="Log file; the default is stderr.")
@_daemon("--pidfile", help="Process id file; none by default.")
@_daemon("--uid", help="User to become.")
@_daemon("--gid", help="Group to become.")
@_daemon("--umask", help="Mask of new files and directories.")
@_daemon("--executable", help="Python interpreter to run in the background, with -D.")
@click.pass_context
def worker(ctx: click.Context, /, **given: Any) -> None:
    r"""Start worker instance.

    \b
    Examples
    --------

    \b
    $ pyworker --app=proj worker -l INFO
    $ pyworker -A proj worker -l INFO -Q hipri,lopri
    $ pyworker -A proj worker --concurrency=4
    """
    context: CliContext = ctx.obj
    app = context.app
    user_options: Mapping[str, Any] = getattr(app, "user_options", None) or {}
    preload = {option.name: given[option.name] for option in user_options.get("preload", ())}
    announce_preload_options(app, worker, preload)
    _fill_from_settings(given, app)
    _refuse(ctx, given)
    if given["detach"]:
        ctx.exit(_detach(ctx, context, given))
    _apply_extra_arguments(ctx, app)
    options = _worker_options(ctx, context, given)
    refused = solo_refusal(options) if options.pool == "solo" else None
    if refused:
        raise click.BadParameter(refused, ctx=ctx, param_hint="-P/--pool")
    # Before the privileges go: what is imported here may not be readable to the worker's user.
    worker_app = context.worker_app()
    try:
        drop_privileges(given["uid"], given["gid"])
        if given["umask"]:
            os.umask(parse_umask(str(given["umask"])))
    except (PrivilegesError, OSError) as error:
        context.echo_error(str(error))
        ctx.exit(1)
    ctx.exit(_run(worker_app, options, context))


def _detach(ctx: click.Context, context: CliContext, given: Mapping[str, Any]) -> int:
    plan = Detachment(
        arguments=sys.argv[1:],
        logfile=_expanded(ctx, given, "logfile"),
        pidfile=_expanded(ctx, given, "pidfile"),
        user=given["uid"],
        group=given["gid"],
        umask=given["umask"],
        executable=given["executable"],
    )
    try:
        return detach(plan)
    except (PrivilegesError, OSError) as error:
        context.echo_error(str(error))
        return 1


def _run(app: Any, options: WorkerOptions, context: CliContext) -> int:
    try:
        return Runner(app, options).run()
    except ImproperlyConfigured as error:
        context.echo_error(f"Error: {error}")
        return 1
    except OSError as error:
        option = _option_of(error, options)
        if option is None:
            raise
        context.echo_error(f"Error: Invalid value for {option}: {os.fsdecode(error.filename)!r}: {error.strerror}")
        return 1
    except Exception as error:
        if not (isinstance(error, SecurityError) or is_security_error(error)):
            raise
        context.echo_error(str(error))
        return 1


def _option_of(error: OSError, options: WorkerOptions) -> str | None:
    """Return the option whose file could not be opened, None if it was another one."""
    if not isinstance(error.filename, (str, bytes)):
        return None
    path = os.path.abspath(os.fsdecode(error.filename))
    for option, value in (
        ("--pidfile", options.pidfile),
        ("-f/--logfile", options.logfile),
        ("-S/--statedb", options.statedb),
    ):
        # A database may be kept in several files: the option's value and an ending.
        if value and path.startswith(os.path.abspath(value)):
            return option
    return None


def _fill_from_settings(given: dict[str, Any], app: Any) -> None:
    for name in _DAEMON_OPTIONS:
        given[name] = given[name] or getattr(app.conf, f"worker_{name}", None)
    given["probes"] = given["probes"] or getattr(app.conf, "worker_probes", None)
    given["statedb"] = given["statedb"] or getattr(app.conf, "worker_state_db", None)
    # The option's default cannot be told from the option; a configured pool wins over both, as upstream.
    configured = getattr(app.conf, "worker_pool", None)
    if given["pool"] == "prefork" and isinstance(configured, str):
        given["pool"] = configured


def _refuse(ctx: click.Context, given: Mapping[str, Any]) -> None:
    refused = refusal(given)
    if refused is not None:
        option, reason = refused
        raise click.BadParameter(reason, ctx=ctx, param_hint=option)
    reason_against_pool = pool_refusal(canonical_pool(given["pool"]))
    if reason_against_pool is not None:
        raise click.BadParameter(reason_against_pool, ctx=ctx, param_hint="-P/--pool")
    if given["pool_start_method"] == "spawn":
        reason = "children are forked by a server that has no threads; spawn is not supported"
        raise click.BadParameter(reason, ctx=ctx, param_hint="--pool-start-method")


def _apply_extra_arguments(ctx: click.Context, app: Any) -> None:
    """Settings given as ``-- worker.prefetch_multiplier=3``, in the words of the application's loader."""
    if not ctx.args:
        return
    try:
        app.config_from_cmdline(ctx.args, namespace="worker")
    except (AttributeError, KeyError, ValueError) as error:
        raise click.UsageError(
            f"Unable to parse extra configuration from command line.\nReason: {error}", ctx=ctx
        ) from error


def _worker_options(ctx: click.Context, context: CliContext, given: Mapping[str, Any]) -> WorkerOptions:
    hostname = given["hostname"]
    return WorkerOptions(
        hostname=hostname,
        loglevel=given["loglevel"],
        # Not expanded: %i stands for the child's own index.
        logfile=given["logfile"],
        pidfile=_expanded(ctx, given, "pidfile"),
        statedb=_expanded(ctx, given, "statedb"),
        pool=canonical_pool(given["pool"]),
        concurrency=given["concurrency"],
        queues=given["queues"] or (),
        exclude_queues=given["exclude_queues"] or (),
        include=given["include"] or (),
        # Zero means the setting, as upstream.
        prefetch_multiplier=given["prefetch_multiplier"] or None,
        disable_prefetch=bool(given["disable_prefetch"]),
        max_tasks_per_child=given["max_tasks_per_child"],
        max_memory_per_child_kib=given["max_memory_per_child"],
        time_limit_s=given["time_limit"],
        soft_time_limit_s=given["soft_time_limit"],
        task_events=bool(given["task_events"]),
        autoscale=given["autoscale"],
        without_gossip=given["without_gossip"],
        without_mingle=given["without_mingle"],
        without_heartbeat=given["without_heartbeat"],
        heartbeat_interval_s=given["heartbeat_interval"],
        purge=given["purge"],
        optimization=given["optimization"],
        probes=_probes(ctx, given),
        quiet=context.quiet,
        no_color=context.no_color,
        extra={name: value for name, value in given.items() if name not in _KNOWN},
    )


def _probes(ctx: click.Context, given: Mapping[str, Any]) -> str | None:
    try:
        return listening_address(given["probes"]) if given["probes"] else None
    except ValueError as error:
        raise click.BadParameter(str(error), ctx=ctx, param_hint="--probes") from error


def _expanded(ctx: click.Context, given: Mapping[str, Any], name: str) -> str | None:
    try:
        return expand_node(given[name], given["hostname"]) if given[name] else None
    except ValueError as error:
        raise click.BadParameter(str(error), ctx=ctx, param_hint=f"--{name}") from error


#: Options declared above; everything else came from the application.
_KNOWN = frozenset(param.name for param in worker.params)
