"""A file that the version with schema 1 wrote: everything in it is found by this one."""

from __future__ import annotations

import fcntl
import json
import sqlite3
import struct
import time
from typing import TYPE_CHECKING, Any

from kombu import Connection

from pyworker._native import SqliteConsumer, SqliteFile
from pyworker.transport.sqlite_url import url_of
from pyworker.worker.sqlite_config import SqliteAddress
from support.old_sqlite_file import NEW, schema_of, write_old_file

if TYPE_CHECKING:
    from pathlib import Path

#: Where in the side file a node's byte is that it locks as long as it lives.
FIRST_BYTE = 1 << 20


def lock_of(kind: int, start: int) -> bytes:
    """Return a ``struct flock`` of one byte."""
    return struct.pack("hhqqi0q", kind, 0, start, 1, 0)


def ids_of(consumer: SqliteConsumer, queue: str) -> list[tuple[int, str]]:
    """Take everything that waits: how often it was handed out before, and its task's id."""
    fetched = consumer.fetch([(queue, False)], 100)
    return [(deliveries, json.loads(body)["headers"]["id"]) for _tag, _queue, deliveries, body in fetched]


def test_everything_is_found(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    write_old_file(path)
    address = SqliteAddress(path=str(path))
    file = SqliteFile(address)
    assert file.problems() == []
    assert {name: tuple(counts) for name, *counts in file.queues()} == {
        # Waiting, scheduled (one of these is due by now), held.
        "filed": (4, 2, 0),
        "held": (0, 0, 1),
        "old@host.celery.pidbox": (0, 0, 0),
        "one": (0, 0, 0),
        "short": (0, 0, 0),
        "video": (0, 0, 0),
        "waits": (1, 0, 0),
    }
    results: list[dict[str, Any]] = [
        json.loads(raw or b"null") for raw in file.get_many([b"celery-task-meta-done", b"celery-task-meta-failed"])
    ]
    assert [(meta["status"], meta["result"]) for meta in results[:1]] == [("SUCCESS", 42)]
    assert (results[1]["status"], results[1]["result"]["exc_type"]) == ("FAILURE", "ValueError")
    assert file.bindings("media") == [("video.#", "^video\\..*?$", "video")]
    assert file.bindings("straight") == [("one", "", "one")]
    heir = SqliteConsumer(file, "heir", 60.0)
    # What nobody has finished comes first in its step as it did, and the dead one's message was handed out twice.
    assert ids_of(heir, "filed") == [(0, "second"), (0, "third"), (0, "due"), (0, "expired"), (0, "last")]
    assert ids_of(heir, "held") == [(2, "held")]
    assert ids_of(heir, "waits") == [(0, "part-waits")]
    assert {name: tuple(counts) for name, *counts in file.queues()}["filed"] == (0, 1, 5)
    # Written and read by what came with the new version.
    with Connection(url_of(address)) as connection:
        assert connection.default_channel.fanout_listeners("news") == []
    heir.close()
    file.close()
    assert schema_of(path) == NEW


def test_who_holds_something_by_the_old_version_keeps_it_while_he_lives(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    write_old_file(path)
    with sqlite3.connect(path) as other:
        (node,) = other.execute("SELECT owner FROM held").fetchone()
        with open("/proc/sys/kernel/random/boot_id") as boot:
            changed = (boot.read().strip(), time.clock_gettime_ns(time.CLOCK_MONOTONIC), node)
        other.execute("UPDATE nodes SET boot = ?, seen_ns = ? WHERE id = ?", changed)
    other.close()
    with (tmp_path / "queue.db-bell").open("w+b") as side:
        fcntl.fcntl(side, fcntl.F_OFD_SETLK, lock_of(fcntl.F_WRLCK, FIRST_BYTE + node))
        file = SqliteFile(SqliteAddress(path=str(path)))
        assert ids_of(SqliteConsumer(file, "first", 60.0), "held") == []
        fcntl.fcntl(side, fcntl.F_OFD_SETLK, lock_of(fcntl.F_UNLCK, FIRST_BYTE + node))
        assert ids_of(SqliteConsumer(file, "second", 60.0), "held") == [(2, "held")]
    file.close()
