"""The commands of the fork server, byte for byte: the native side speaks them too."""

from __future__ import annotations

import gc
import os
import socket
from typing import TYPE_CHECKING

import pytest

from pyworker.worker import fork_protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    engine, server = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with engine, server:
        yield engine, server


def descriptors(count: int) -> list[int]:
    return [os.memfd_create(f"test {number}") for number in range(count)]


def test_spawn_carries_memory_and_link_in_this_order(pair: Pair) -> None:
    engine, server = pair
    sent = descriptors(2)
    socket.send_fds(engine, [b"spawn 12\n"], sent)
    command = fork_protocol.receive(server)
    assert isinstance(command, fork_protocol.Spawn)
    assert command.index == 12
    assert os.path.sameopenfile(command.memory_fd, sent[0])
    assert os.path.sameopenfile(command.link_fd, sent[1])
    assert not os.get_inheritable(command.memory_fd)
    assert not os.get_inheritable(command.link_fd)
    fork_protocol.close_all([*sent, command.memory_fd, command.link_fd])


def test_spare_carries_its_command_socket(pair: Pair) -> None:
    engine, server = pair
    sent = descriptors(1)
    socket.send_fds(engine, [b"spare\n"], sent)
    command = fork_protocol.receive(server)
    assert isinstance(command, fork_protocol.Spare)
    assert os.path.sameopenfile(command.command_fd, sent[0])
    fork_protocol.close_all([*sent, command.command_fd])


def test_send_writes_what_receive_reads(pair: Pair) -> None:
    engine, server = pair
    memory, link = descriptors(2)
    fork_protocol.send(engine, fork_protocol.Spawn(7, memory, link))
    fork_protocol.send(engine, fork_protocol.Spare(link))
    first, second = fork_protocol.receive(server), fork_protocol.receive(server)
    assert isinstance(first, fork_protocol.Spawn)
    assert isinstance(second, fork_protocol.Spare)
    fork_protocol.close_all([memory, link, first.memory_fd, first.link_fd, second.command_fd])


def test_end_of_file_is_no_command(pair: Pair) -> None:
    engine, server = pair
    engine.close()
    assert fork_protocol.receive(server) is None


@pytest.mark.parametrize(
    ("packet", "count"),
    [(b"spawn 1\n", 1), (b"spawn\n", 2), (b"spawn -1\n", 2), (b"spare\n", 2), (b"spare\n", 0), (b"\xff\xfe", 0)],
)
def test_anything_else_is_refused_and_its_descriptors_are_closed(pair: Pair, packet: bytes, count: int) -> None:
    engine, server = pair
    sent = descriptors(count)
    # What earlier tests left to the collector must not be closed between the two counts.
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    socket.send_fds(engine, [packet], sent)
    with pytest.raises(fork_protocol.ForkProtocolError):
        fork_protocol.receive(server)
    assert len(os.listdir("/proc/self/fd")) == before
    fork_protocol.close_all(sent)


def test_announcement_is_a_letter_and_eight_bytes() -> None:
    assert fork_protocol.announcement(0x0102) == b"P\x02\x01\0\0\0\0\0\0"
    assert fork_protocol.read_announcement(b"P\x02\x01\0\0\0\0\0\0") == 0x0102


@pytest.mark.parametrize("packet", [b"", b"P", b"D\0\0\0\0\0\0\0\0", b"P\0\0\0\0\0\0\0\0\0"])
def test_other_first_packets_are_refused(packet: bytes) -> None:
    with pytest.raises(fork_protocol.ForkProtocolError):
        fork_protocol.read_announcement(packet)
