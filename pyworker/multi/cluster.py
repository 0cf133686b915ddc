"""The nodes of one ``multi`` command, started, stopped and waited for."""

from __future__ import annotations

import signal
import socket
import time
from typing import TYPE_CHECKING, Protocol

from pyworker.multi.node import Node, full_name
from pyworker.multi.options import Options, ParsedLine, options_by_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pyworker.multi.process import Process

#: How often nodes that were told to stop are looked at, and how often that is shown.
_LOOK_S = 0.1
_SHOW_S = 2.0
_EMPTY = frozenset(("''", '""'))
#: Options of ``multi`` itself.
_OWN = ("--cmd", "--append", "--hostname", "-n", "--prefix", "--suffix", "--range-prefix")


def nodes_of(line: ParsedLine) -> list[Node]:
    """The nodes that a command line names.

    Raises:
        MultiUsageError: an option is for a node that is not there.
    """
    shared = {name: value for name, value in line.options.items() if name not in _OWN}
    own = {name: line.options.get(name) or "" for name in _OWN}
    host = own["--hostname"] or own["-n"] or socket.gethostname()
    suffix = own["--suffix"] or host
    suffix = "" if suffix in _EMPTY else suffix
    is_count = len(line.names) == 1 and line.names[0].isdigit()
    names = [str(number) for number in range(1, int(line.names[0]) + 1)] if is_count else line.names
    prefix = (own["--range-prefix"] or "celery") if is_count else own["--prefix"]
    scoped = options_by_name(line, names, is_count=is_count)
    nodes = []
    for name in names:
        whole = full_name(name, prefix, suffix)
        # A node may be meant by its full name, by the name as given, or by the part before the host.
        for key in (whole, name, name.partition("@")[0]):
            if key in scoped:
                options: Options = {**shared, **scoped[key]}
                break
        else:
            options = dict(shared)
        nodes.append(
            Node(whole, options, command=own["--cmd"] or None, append=own["--append"], passthrough=line.passthrough)
        )
    return nodes


class Reporter(Protocol):
    """What is told how it goes."""

    def starting(self, node: Node) -> None:
        """A node is about to start."""

    def restarting(self, node: Node) -> None:
        """A node is about to start again."""

    def spawned(self, command: Sequence[str]) -> None:
        """A node's command line."""

    def started(self, code: int) -> None:
        """The node's command ended with this exit code."""

    def stopping(self) -> None:
        """Nodes are told to stop."""

    def signalled(self, node: Node, pid: int, number: int) -> None:
        """A node got a signal."""

    def unreachable(self, node: Node, pid: int) -> None:
        """A node's process could get no signal."""

    def waiting(self, pids: Sequence[int]) -> None:
        """The nodes of these processes still run."""

    def still_waiting(self) -> None:
        """They still do."""

    def ended(self, node: Node) -> None:
        """A node that was waited for is gone."""

    def down(self, node: Node) -> None:
        """A node does not run."""


class Cluster:
    """Nodes that are treated alike.

    Args:
        nodes: in the order in which they are started.
        reporter: told what happens.
    """

    def __init__(self, nodes: Iterable[Node], reporter: Reporter) -> None:
        self.nodes = list(nodes)
        self._reporter = reporter

    def start(self) -> bool:
        """Start all; whether all did."""
        codes = []
        for node in self.nodes:
            self._reporter.starting(node)
            codes.append(self._start(node))
        return not any(codes)

    def stop(self, number: int = signal.SIGTERM, *, waits: bool) -> None:
        """Send a signal to those that run; with ``waits`` return when they are gone."""
        self._stop(number, waits=waits, on_down=self._reporter.down)

    def restart(self, number: int = signal.SIGTERM) -> bool:
        """Stop each and start it as soon as it is gone; whether all started."""
        codes: list[int] = []

        def start_again(node: Node) -> None:
            self._reporter.restarting(node)
            codes.append(self._start(node))

        self._stop(number, waits=True, on_down=start_again)
        return not any(codes)

    def kill(self) -> None:
        """Kill those that run."""
        for node in self.nodes:
            process = node.process
            if process is None:
                self._reporter.down(node)
            else:
                self._send(node, process, signal.SIGKILL)

    def find(self, name: str) -> Node | None:
        """A node by its full name."""
        return next((node for node in self.nodes if node.name == name), None)

    def _start(self, node: Node) -> int:
        code = node.start(self._reporter.spawned)
        self._reporter.started(code)
        return code

    def _stop(self, number: int, *, waits: bool, on_down: Callable[[Node], object]) -> None:
        processes: dict[Node, Process] = {}
        for node in self.nodes:
            process = node.process
            if process is None:
                on_down(node)
            else:
                processes[node] = process
        if not processes:
            return
        self._reporter.stopping()
        for node, process in list(processes.items()):
            if not self._send(node, process, number):
                del processes[node]
                on_down(node)
        if waits:
            self._await(processes, on_down)

    def _send(self, node: Node, process: Process, number: int) -> bool:
        was_sent = process.send(number)
        if was_sent:
            self._reporter.signalled(node, process.pid, number)
        else:
            self._reporter.unreachable(node, process.pid)
        return was_sent

    def _await(self, processes: dict[Node, Process], on_down: Callable[[Node], object]) -> None:
        if processes:
            self._reporter.waiting([process.pid for process in processes.values()])
        next_show = time.monotonic() + _SHOW_S
        while processes:
            # The pid file says too little: a worker removes it before its very end.
            gone = [node for node, process in processes.items() if not process.is_alive]
            for node in gone:
                del processes[node]
                self._reporter.ended(node)
                on_down(node)
                if processes:
                    self._reporter.waiting([process.pid for process in processes.values()])
            if gone:
                continue
            if time.monotonic() >= next_show:
                next_show = time.monotonic() + _SHOW_S
                self._reporter.still_waiting()
            time.sleep(_LOOK_S)
