"""A parent process for the fork server's tests: does as told, one JSON line a question and an answer.

It is a program of its own because a fork server makes its parent a subreaper and outlives nothing else: the
test process must neither adopt children nor be killed to see them die.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from typing import Any

from pyworker.worker import fork_protocol
from pyworker.worker.forkserver import start_fork_server


def child_main(index: int, memory_fd: int, link_fd: int) -> int:
    """Answer questions on the link until told to exit or until the other end is gone."""
    os.close(memory_fd)
    with socket.socket(fileno=link_fd) as link:
        while True:
            words = link.recv(100).decode().split()
            if not words:
                return 0
            if words[0] == "exit":
                return int(words[1])
            if words[0] == "raise":
                raise RuntimeError("the child's main function failed")
            link.send(json.dumps(_self_portrait(index, link_fd)).encode())


def _self_portrait(index: int, link_fd: int) -> dict[str, Any]:
    descriptors = {int(name) for name in os.listdir("/proc/self/fd")}
    # The listing's own descriptor is among them and closed by now.
    opened = sorted(number for number in descriptors if number > 2 and number != link_fd and _is_open(number))
    return {
        "index": index,
        "pid": os.getpid(),
        "parent": os.getppid(),
        "descriptors": opened,
        "handlers": {name: str(signal.getsignal(getattr(signal, name))) for name in ("SIGTERM", "SIGQUIT", "SIGUSR1")},
    }


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


class Parent:
    """The engine's part, played by hand."""

    def __init__(self) -> None:
        server = start_fork_server(child_main)
        self.server_pid = server.pid
        self.commands = socket.socket(fileno=server.command_fd)
        self.spare: socket.socket | None = None
        self.links: dict[int, socket.socket] = {}

    def do_pids(self) -> dict[str, int]:
        return {"parent": os.getpid(), "server": self.server_pid}

    def do_spawn(self, index: int) -> int:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        memory_fd = os.memfd_create("link")
        fork_protocol.send(self.commands, fork_protocol.Spawn(index, memory_fd, theirs.fileno()))
        os.close(memory_fd)
        theirs.close()
        ours.settimeout(20)
        self.links[index] = ours
        return fork_protocol.read_announcement(ours.recv(100))

    def do_spare(self) -> bool:
        self.spare, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fork_protocol.send(self.commands, fork_protocol.Spare(theirs.fileno()))
        theirs.close()
        return True

    def do_promote(self) -> bool:
        assert self.spare is not None
        self.commands.close()
        self.commands, self.spare = self.spare, None
        return True

    def do_portrait(self, index: int) -> Any:
        self.links[index].send(b"portrait")
        return json.loads(self.links[index].recv(65536))

    def do_tell(self, index: int, text: str) -> bool:
        self.links[index].send(text.encode())
        return True

    def do_wait(self, pid: int) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def do_say(self, text: str) -> bool:
        """Send the fork server something that is no command."""
        self.commands.send(text.encode())
        return True

    def do_close(self) -> bool:
        self.commands.close()
        return True


def main() -> None:
    """Serve the questions on standard input."""
    parent = Parent()
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(getattr(parent, f"do_{name}")(*arguments)), flush=True)


if __name__ == "__main__":
    main()
