"""``multi``: start, stop and restart several nodes on this machine."""

from __future__ import annotations

import os
import shlex
import signal
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from pyworker.cli.commands import AppCommand
from pyworker.cli.replies import count
from pyworker.multi.cluster import Cluster, nodes_of
from pyworker.multi.node import signal_number
from pyworker.multi.options import MultiUsageError, parse_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyworker.cli.context import CliContext
    from pyworker.multi.node import Node

_USAGE = """\
usage: multi start <node1 node2 nodeN|range> [worker options]
       multi stop <n1 n2 nN|range> [-SIG (default: -TERM)]
       multi stopwait <n1 n2 nN|range> [-SIG]
       multi restart <n1 n2 nN|range> [-SIG] [worker options]
       multi kill <n1 n2 nN|range>

       multi show <n1 n2 nN|range> [worker options]
       multi get hostname <n1 n2 nN|range> [worker options]
       multi names <n1 n2 nN|range>
       multi expand template <n1 n2 nN|range>
       multi help

options of multi, after its command:

    * --nosplash:   No heading.
    * --quiet:      Say less.
    * --verbose:    Show the command of every node.
    * --no-color:   No colours.
"""
_HELP = """\
`multi start 3 -A proj -c 3` starts celery1, celery2 and celery3 on this host in the background;
`multi start image video -A proj -c 3` starts image and video.

An option may be for some nodes only: -c:1 10, -c:1-3 10 and -c:1,3 10 by position, -Q:image pictures by name.
Everything after -- goes to every worker.

Pid files and log files: --pidfile=/var/run/celery/%n.pid --logfile=/var/log/celery/%n%I.log unless given. stop,
stopwait, restart and kill find the nodes by them, so these options must be repeated; restart takes all options.

--range-prefix=w names nodes w1, w2 ...; --prefix and --suffix change names; --hostname=host.example.com is the host
part; --cmd replaces the command, --append adds a text to it.
"""
_VERBS = ("start", "stop", "stopwait", "stop_verify", "restart", "kill", "show", "get", "names", "expand", "help")
#: Our own options, which the workers do not get.
_OWN_WORDS = {"--nosplash": "nosplash", "--quiet": "quiet", "-q": "quiet", "--verbose": "verbose"}
#: Global options that are handed to the workers, as they stand before the command.
_HANDED_ON = {"app": "-A", "broker": "-b", "result_backend": "--result-backend", "loader": "--loader",
              "config": "--config"}  # fmt: skip


class _MultiCommand(AppCommand):
    """Takes its arguments as they are: they have a grammar of their own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep everything but a request for help."""
        if args[:1] == ["--help"]:
            return super().parse_args(ctx, args)
        ctx.args = list(args)
        return ctx.args


def _unwrapped(text: str) -> str:
    """A text with every paragraph marked for click to leave its lines as they are."""
    return "\n\n".join(f"\b\n{paragraph}" for paragraph in text.strip().split("\n\n"))


@click.command(
    cls=_MultiCommand,
    help=f"Start, stop and restart several nodes.\n\n{_unwrapped(_USAGE)}\n\n{_unwrapped(_HELP)}",
)
@click.pass_context
def multi(ctx: click.Context, /) -> None:
    """See ``_USAGE``."""
    words = list(ctx.args)
    given = {name: word in words for word, name in _OWN_WORDS.items()}
    given["quiet"] = bool(ctx.obj.quiet) or any(word in words for word in ("--quiet", "-q"))
    words = [word for word in words if word not in _OWN_WORDS]
    if "--no-color" in words:
        ctx.obj.no_color = True
        words.remove("--no-color")
    reporter = _Console(ctx.obj, **given)
    if not words or words[0].startswith("-"):
        ctx.exit(reporter.usage())
    verb, rest = words[0], [*words[1:], *_global_words(ctx)]
    if verb not in _VERBS:
        reporter.complain(f"Invalid command: {verb}")
        ctx.exit(reporter.usage())
    try:
        code = _run(verb, rest, reporter)
    except (MultiUsageError, ValueError) as error:
        raise click.UsageError(str(error), ctx) from error
    except OSError as error:
        raise click.ClickException(str(error)) from error
    ctx.exit(code)


def _global_words(ctx: click.Context) -> list[str]:
    """Global options as the workers need them; what came from the environment reaches them through it."""
    parent = ctx.parent
    if parent is None:
        return []
    words: list[str] = []
    for name, option in _HANDED_ON.items():
        value = parent.params.get(name)
        if isinstance(value, str) and parent.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            words += [f"{option}={value}"] if option.startswith("--") else [option, value]
    if parent.params.get("workdir") is not None:
        words.append(f"--workdir={os.getcwd()}")
    if parent.params.get("no_color"):
        words.append("-C")
    return words


def _run(verb: str, words: list[str], reporter: _Console) -> int:
    if verb == "help":
        reporter.say(f"{_USAGE}\n{_HELP}")
        return 0
    subject = ""
    if verb in ("get", "expand"):
        if not words:
            raise MultiUsageError(f"{verb} needs {'the name of a node' if verb == 'get' else 'a template'}")
        subject, *words = words
    number, words = _signal(words) if verb in ("stop", "stopwait", "stop_verify", "restart") else (0, words)
    cluster = Cluster(nodes_of(parse_line(words)), reporter)
    if verb in ("names", "show", "expand", "get"):
        return _tell(verb, subject, cluster, reporter)
    reporter.splash()
    if verb == "start":
        reporter.note("> Starting nodes...")
        return int(not cluster.start())
    if verb == "restart":
        return int(not cluster.restart(number))
    if verb == "kill":
        cluster.kill()
    else:
        cluster.stop(number, waits=verb != "stop")
    return 0


def _tell(verb: str, subject: str, cluster: Cluster, reporter: _Console) -> int:
    if verb == "get":
        node = cluster.find(subject)
        if node is None:
            return 1
        reporter.say(shlex.join(node.arguments))
        return 0
    for node in cluster.nodes:
        if verb == "names":
            reporter.say(node.name)
        elif verb == "show":
            reporter.say(shlex.join([node.executable, *node.arguments]))
        else:
            reporter.say(node.expand(subject))
    return 0


def _signal(words: list[str]) -> tuple[int, list[str]]:
    """The signal among the words, TERM without one, and the other words."""
    before = words[: words.index("--")] if "--" in words else words
    for position in range(len(before) - 1, -1, -1):
        number = signal_number(before[position])
        if number is not None:
            return number, words[:position] + words[position + 1 :]
    return signal.SIGTERM, words


class _Console:
    """Writes what happens, line for line as ``celery multi``."""

    def __init__(self, context: CliContext, *, nosplash: bool, quiet: bool, verbose: bool) -> None:
        self._context = context
        self._nosplash, self._quiet, self._verbose = nosplash, quiet, verbose

    def say(self, text: str, *, newline: bool = True) -> None:
        """Write."""
        self._context.echo(text, nl=newline)

    def note(self, text: str, *, newline: bool = True, **style: Any) -> None:
        """Write unless quiet."""
        if not self._quiet:
            self.say(self._context.style(text, **style) if style else text, newline=newline)

    def complain(self, text: str) -> None:
        """Write to standard error."""
        self._context.error(text)

    def splash(self) -> None:
        """Write the heading."""
        if not self._nosplash:
            self.note(f"pyworker multi v{version('pyworker')}", fg="cyan", bold=True)

    def usage(self) -> int:
        """Write how it is used; returns the exit code."""
        self.splash()
        self.say(_USAGE)
        return 1

    # -- the cluster's reporter

    def starting(self, node: Node) -> None:
        self.note(f"\t> {node.name}: ", newline=False)

    def restarting(self, node: Node) -> None:
        self.note(f"> Restarting node {node.name}: ", newline=False, fg="blue")

    def spawned(self, command: Sequence[str]) -> None:
        if self._verbose:
            self.note(f"  {shlex.join(command)}")

    def started(self, code: int) -> None:
        if code < 0:
            self.note(f"* Child was terminated by signal {-code}")
        elif code:
            self.note(f"* Child terminated with exit code {code}")
        self.note("FAILED" if code else "OK", fg="red" if code else "green", bold=True)

    def stopping(self) -> None:
        self.note("> Stopping nodes...", fg="blue")

    def signalled(self, node: Node, pid: int, number: int) -> None:
        name = signal.Signals(number).name.removeprefix("SIG") if number in set(signal.Signals) else str(number)
        self.note(f"\t> {node.name}: {name} -> {pid}")

    def unreachable(self, node: Node, pid: int) -> None:
        self.note(f"Could not signal {node.name} ({pid}): No such process")

    def waiting(self, pids: Sequence[int]) -> None:
        numbers = ", ".join(map(str, pids))
        self.note(f"> Waiting for {count(len(pids), 'node')} -> {numbers}...", newline=False, fg="blue")

    def still_waiting(self) -> None:
        self.note(".", newline=False)

    def ended(self, node: Node) -> None:
        self.note(f"\n\t> {node.name}: ", newline=False)
        self.note("OK", fg="green", bold=True)

    def down(self, node: Node) -> None:
        self.note(f"> {node.name}: ", newline=False)
        self.note("DOWN", fg="magenta", bold=True)
