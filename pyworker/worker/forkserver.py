"""The fork server: a single-threaded copy of the parent, made before any native thread, that forks every child.

Forking is only safe in a process without threads, and cheap only where the application is loaded already. The
parent keeps the first property for itself no longer than until the engine starts; the fork server keeps both for
good. Children are forked twice, so that the parent, a subreaper, becomes their parent: they outlive the fork
server, die with the parent and are reaped by it::

    parent (subreaper, engine threads)
      |- fork server ---- fork ---> intermediate (exits at once) ---- fork ---> child, adopted by the parent
      |- spare fork server (made the same way, idle until its own socket speaks)
      '- child 0..n

Memory: everything allocated so far is frozen before the fork and the collector is off in the server, so that no
process writes to pages it shares only by looking at objects.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from pyworker.worker import fork_protocol, process_control

#: Runs a child in its own process; gets (pool index, memory descriptor, link socket descriptor) and returns the
#: exit code. Owns the descriptors.
ChildMain = Callable[[int, int, int], int]

#: The parent decides when to stop; a signal to the process group must not take the fork server first.
_IGNORED_BY_SERVER = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1)
#: What a child starts with; the library's own process initialisation goes from there.
_RESET_IN_CHILD = (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1)
#: Exit code of a child whose main function raised (``EX_SOFTWARE``).
_EXIT_CHILD_FAILED = 70
_FIRST_FORK_PAUSE_S = 0.1
_LONGEST_FORK_PAUSE_S = 5.0


@dataclass(frozen=True)
class ForkServer:
    """A running fork server as the parent sees it."""

    #: The parent's end of the command socket.
    command_fd: int
    pid: int


def start_fork_server(child_main: ChildMain) -> ForkServer:
    """Fork the fork server. The calling process must have no native threads; it becomes a subreaper."""
    process_control.become_subreaper()
    parent_pid = os.getpid()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    _flush_standard_streams()
    # Here and not in the server, so that the pages this writes to stay shared with the parent as well.
    gc.collect()
    gc.freeze()
    # Held back until the server ignores them: a Ctrl-C right now must not take the server alone.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED_BY_SERVER)
    pid = os.fork()
    if pid == 0:
        ours.close()
        _serve_and_exit(theirs, parent_pid, child_main, mask)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    theirs.close()
    return ForkServer(ours.detach(), pid)


def _serve_and_exit(
    channel: socket.socket, parent_pid: int, child_main: ChildMain, mask: set[int | signal.Signals]
) -> NoReturn:
    """Everything after the fork. Never returns into the parent's stack."""
    exit_code = 1
    try:
        process_control.die_with_parent(parent_pid)
        for number in _IGNORED_BY_SERVER:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        gc.disable()
        exit_code = _serve(channel, parent_pid, child_main)
    except BaseException as error:  # the traceback must not run through the parent's handlers and finalizers
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        _flush_standard_streams()
        os._exit(exit_code)


def _serve(channel: socket.socket, parent_pid: int, child_main: ChildMain) -> int:
    """Obey the command socket until it ends. Returns in forked children too, with the child's exit code."""
    while True:
        command = fork_protocol.receive(channel)
        if command is None:
            return 0
        is_child = _fork_twice(channel, parent_pid)
        if isinstance(command, fork_protocol.Spawn):
            if is_child:
                channel.close()
                return _run_child(command, child_main)
            os.close(command.memory_fd)
            os.close(command.link_fd)
        elif is_child:
            # From here on this process is the spare: same loop, its own socket.
            channel.close()
            channel = socket.socket(fileno=command.command_fd)
            channel.setblocking(True)
        else:
            os.close(command.command_fd)


def _fork_twice(channel: socket.socket, parent_pid: int) -> bool:
    """Fork a process whose parent is ``parent_pid``. ``True`` in the new process.

    A failing fork (no memory, too many processes) is tried again for as long as the engine is there: it waits
    for the child's greeting and has no other way to learn of the failure.
    """
    pause_s = _FIRST_FORK_PAUSE_S
    while True:
        try:
            forked = _try_fork_twice(parent_pid)
        except OSError as error:
            _report(f"cannot fork, trying again in {pause_s:g} s: {error}")
            if _is_abandoned(channel, pause_s):
                os._exit(0)
            pause_s = min(pause_s * 2, _LONGEST_FORK_PAUSE_S)
        else:
            return forked


def _try_fork_twice(parent_pid: int) -> bool:
    intermediate = os.fork()
    if intermediate:
        status = os.waitpid(intermediate, 0)[1]
        if status != 0:
            number = os.waitstatus_to_exitcode(status)
            raise OSError(number, os.strerror(number) if number > 0 else f"killed by signal {-number}")
        return False
    forker_pid = os.getpid()
    try:
        is_grandchild = os.fork() == 0
    except OSError as error:
        os._exit(error.errno or 1)
    if not is_grandchild:
        os._exit(0)
    process_control.wait_until_adopted(forker_pid, parent_pid)
    return True


def _is_abandoned(channel: socket.socket, timeout_s: float) -> bool:
    """Wait; whether the other end went away meanwhile."""
    poller = select.poll()
    poller.register(channel, select.POLLHUP)
    return bool(poller.poll(timeout_s * 1000))


def _run_child(command: fork_protocol.Spawn, child_main: ChildMain) -> int:
    for number in _RESET_IN_CHILD:
        signal.signal(number, signal.SIG_DFL)
    gc.enable()
    try:
        os.write(command.link_fd, fork_protocol.announcement(os.getpid()))
    except BrokenPipeError:
        return 0  # the engine closed the link while we were being forked
    try:
        return child_main(command.index, command.memory_fd, command.link_fd)
    except SystemExit as exit_request:
        return exit_request.code if isinstance(exit_request.code, int) else int(exit_request.code is not None)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return _EXIT_CHILD_FAILED


def _report(text: str) -> None:
    os.write(2, f"pyworker fork server {os.getpid()}: {text}\n".encode())


def _flush_standard_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass  # None, closed, or a full disk: nothing that could be done here
