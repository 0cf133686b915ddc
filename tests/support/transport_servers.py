"""Servers of the conformance suite that no other test needs: each on a free port of this machine, always ended."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from support.ports import free_port
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_START_S = 90.0


class Missing(Exception):
    """A program or library that the broker needs is not installed; the text says which."""


@contextmanager
def postgresql() -> Iterator[str]:
    """Run a private PostgreSQL server; gives its URL for SQLAlchemy."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders:
        raise Missing("no PostgreSQL server; apt-get install postgresql")
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        # The server refuses to be run by root.
        account = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        if account is not None:
            os.chown(folder, account.pw_uid, account.pw_gid)
        user = account.pw_uid if account is not None else None
        initialise = [str(folders[-1] / "initdb"), "-D", f"{folder}/data", "-U", "test", "-A", "trust", "--no-sync"]
        subprocess.run(initialise, check=True, stdout=subprocess.DEVNULL, user=user, cwd=folder)
        command = [
            str(folders[-1] / "postgres"), "-D", f"{folder}/data", "-p", str(port), "-k", folder, "-c", "fsync=off",
            "-c", "listen_addresses=127.0.0.1",
        ]  # fmt: skip
        with running(command, port, user=user, directory=folder):
            yield f"postgresql+psycopg://test@127.0.0.1:{port}/postgres"


@contextmanager
def etcd() -> Iterator[int]:
    """Run a private etcd with its old interface, the one that kombu speaks; gives its port."""
    program = shutil.which("etcd")
    if program is None:
        raise Missing("no etcd; apt-get install etcd-server")
    with tempfile.TemporaryDirectory() as folder:
        port, peer_port = free_port(), free_port()
        here, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
        command = [
            program, "--enable-v2", "--data-dir", folder, "--listen-client-urls", here, "--advertise-client-urls", here,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
        ]  # fmt: skip
        with running(command, port, directory=folder):
            yield port


@contextmanager
def moto() -> Iterator[int]:
    """Run moto's emulation of AWS; gives its port."""
    try:
        import moto.server  # noqa: F401
    except ImportError:
        raise Missing("no moto; pip install 'moto[server,sqs]' boto3") from None
    port = free_port()
    with (
        tempfile.TemporaryDirectory() as folder,
        running([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port, directory=folder),
    ):
        yield port


@contextmanager
def running(
    command: Sequence[str],
    port: int,
    *,
    directory: str,
    user: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """Run a server until the block ends; begins when the port is open."""
    log = Path(tempfile.mkstemp(suffix=".log")[1])
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            user=user,
            cwd=directory,
            env={**os.environ, **(environment or {})},
        )

    def is_up() -> bool:
        assert server.poll() is None, log.read_text(errors="replace")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        eventually(is_up, deadline_s=_START_S, what=f"{Path(command[0]).name} is up")
        yield
    finally:
        server.terminate()
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(timeout=20)
        log.unlink()
