"""``-D/--detach``: start the same command again in the background, away from the terminal."""

from __future__ import annotations

import logging
import os
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyworker.worker.pidfile import EXIT_CANNOT_CREATE, Pidfile, PidfileLocked
from pyworker.worker.privileges import drop_privileges, parse_umask

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Set for debugging a start that fails: everything as detached, but the terminal stays.
_FAKE = "C_FAKEFORK"
_EXIT_FAILURE = 1
#: Options that the detached command must not see, with the number of values each takes.
_FOR_US_ALONE = {
    "-D": 0, "--detach": 0, "--uid": 1, "--gid": 1, "--umask": 1, "--workdir": 1, "--executable": 1,
    # Of `events --camera`, as Celery spells it there.
    "-d": 0,
}  # fmt: skip
#: Letters of the worker's short options that take no value, which may stand before others in one word.
_FLAG_LETTERS = frozenset("EBCq")
#: The same options by environment variable: obeyed once, or the new process would detach again.
_VARIABLES = ("CELERY_WORKER_DETACH", "CELERY_WORKER_UID", "CELERY_WORKER_GID", "CELERY_WORKER_UMASK")


@dataclass(frozen=True, kw_only=True)
class Detachment:
    """How to detach; names are expanded already.

    Attributes:
        arguments: those of the present command, without the program.
        logfile: what is written to it must not get lost; checked before the terminal goes.
        pidfile: must not belong to a living process.
        user, group: whom to become.
        umask: mask of new files, as text.
        executable: interpreter to use instead of the present one.
    """

    arguments: Sequence[str]
    logfile: str | None = None
    pidfile: str | None = None
    user: str | None = None
    group: str | None = None
    umask: str | None = None
    executable: str | None = None


def without_detachment(arguments: Sequence[str]) -> list[str]:
    """The arguments of a command without those that detaching itself obeys."""
    kept: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            return [*kept, word, *words]
        name, _, value = word.partition("=")
        if name in _FOR_US_ALONE:
            if _FOR_US_ALONE[name] and not value:
                next(words, None)
            continue
        kept.append(_without_letter(word))
    return [word for word in kept if word != "-"]


def _without_letter(word: str) -> str:
    """``-ED`` without its D; a letter's value may have a D of its own."""
    if not word.startswith("-") or word.startswith("--"):
        return word
    for position, letter in enumerate(word[1:], 1):
        if letter == "D":
            return word[:position] + word[position + 1 :]
        if letter not in _FLAG_LETTERS:
            break
    return word


def detach(plan: Detachment) -> int:
    """Leave the terminal and become the command without ``--detach``; returns only if that fails.

    The calling process ends with exit code 0 as soon as the background process exists. Refusals come before, on the
    terminal: a pid file in use (73), a log file that cannot be written.

    Raises:
        PrivilegesError: the user or group cannot be become.
        OSError: the log file or the pid file cannot be written.
    """
    directory = os.getcwd()
    # As upstream: files are made by the user that the worker will be.
    drop_privileges(plan.user, plan.group)
    if plan.umask:
        os.umask(parse_umask(str(plan.umask)))
    if plan.logfile:
        os.close(os.open(plan.logfile, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644))
    if plan.pidfile:
        # Not kept: the process that will own it is another one.
        pidfile = Pidfile(plan.pidfile)
        try:
            pidfile.acquire()
        except PidfileLocked as error:
            print(error, file=sys.stderr)
            return EXIT_CANNOT_CREATE
        pidfile.release()
    if not os.environ.get(_FAKE):
        _leave_terminal()
    for name in _VARIABLES:
        os.environ.pop(name, None)
    os.chdir(directory)
    program = plan.executable or sys.executable
    command = [program, "-m", "pyworker", *without_detachment(plan.arguments)]
    try:
        os.execvp(program, command)
    except OSError:
        logging.basicConfig(filename=plan.logfile)
        logging.getLogger("celery.worker").critical("Can't exec %r", " ".join(command), exc_info=True)
    return _EXIT_FAILURE


def _leave_terminal() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if os.fork() != 0:
        os._exit(0)
    os.setsid()
    if os.fork() != 0:
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    # What was opened so far (a connection, the terminal by another number) is not the worker's.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
