"""The words between the engine and the fork server: one packet is one ASCII line with descriptors beside it.

========================  ====================================  =============================================
packet                    descriptors (``SCM_RIGHTS``)          meaning
========================  ====================================  =============================================
``spawn <index>\\n``       memory, link socket                   fork the child of this pool index
``spare\\n``               the spare's command socket            fork a copy of the fork server that obeys it
end of file               none                                  exit; running children are not concerned
========================  ====================================  =============================================

The child's first words on its link socket are its own process id (:func:`announcement`): with a double fork
nobody else knows it. The native side of this is ``native/src/pool/supervisor.rs``.
"""

from __future__ import annotations

import array
import os
import socket
from dataclasses import dataclass

#: Longest packet; ``spawn`` with the largest index fits easily.
MAX_PACKET_BYTES = 64
#: Most descriptors one packet carries.
MAX_DESCRIPTORS = 2


class ForkProtocolError(Exception):
    """A packet that is no command: the two ends are of different versions."""


@dataclass(frozen=True)
class Spawn:
    """Fork the child of a pool index. The receiver owns both descriptors."""

    index: int
    memory_fd: int
    link_fd: int


@dataclass(frozen=True)
class Spare:
    """Fork a spare copy of the fork server. The receiver owns the descriptor."""

    command_fd: int


Command = Spawn | Spare


def receive(channel: socket.socket) -> Command | None:
    """Wait for the next command; ``None`` when the other end is gone.

    Raises:
        ForkProtocolError: the packet is not one of ours; its descriptors were closed.
    """
    packet, descriptors = _receive_packet(channel)
    if not packet:
        close_all(descriptors)
        return None
    words = packet.decode("ascii", "replace").split()
    if len(words) == 2 and words[0] == "spawn" and words[1].isdecimal() and len(descriptors) == 2:
        return Spawn(int(words[1]), descriptors[0], descriptors[1])
    if words == ["spare"] and len(descriptors) == 1:
        return Spare(descriptors[0])
    close_all(descriptors)
    raise ForkProtocolError(f"not a command: {packet!r} with {len(descriptors)} descriptors")


def _receive_packet(channel: socket.socket) -> tuple[bytes, list[int]]:
    """A packet and its descriptors, which are close-on-exec: what a task starts must not hold the link open.

    ``socket.recv_fds`` cannot do this; it drops the flags it is given.
    """
    numbers = array.array("i")
    packet, ancillary, _flags, _address = channel.recvmsg(
        MAX_PACKET_BYTES, socket.CMSG_SPACE(MAX_DESCRIPTORS * numbers.itemsize), socket.MSG_CMSG_CLOEXEC
    )
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
    return packet, list(numbers)


def send(channel: socket.socket, command: Command) -> None:
    """Send a command; the descriptors stay the caller's to close."""
    if isinstance(command, Spawn):
        descriptors = [command.memory_fd, command.link_fd]
        socket.send_fds(channel, [f"spawn {command.index}\n".encode()], descriptors)
    else:
        socket.send_fds(channel, [b"spare\n"], [command.command_fd])


def announcement(pid: int) -> bytes:
    """The first packet of a child on its link socket."""
    return b"P" + pid.to_bytes(8, "little")


def read_announcement(packet: bytes) -> int:
    """The process id in a child's first packet.

    Raises:
        ForkProtocolError: the packet is something else.
    """
    if len(packet) != 9 or packet[:1] != b"P":
        raise ForkProtocolError(f"not a child's first packet: {packet!r}")
    return int.from_bytes(packet[1:], "little")


def close_all(descriptors: list[int]) -> None:
    """Close descriptors that came with a packet nobody wants."""
    for descriptor in descriptors:
        os.close(descriptor)
