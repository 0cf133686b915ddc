"""A SQLite file as the version with schema 1 left it: see the text of ``sqlite_schema_1.sql``."""

from __future__ import annotations

import sqlite3
from pathlib import Path

_DUMP = Path(__file__).with_name("sqlite_schema_1.sql")
#: What ``schema_of`` says of a file of version 1, and of one of the current version.
OLD, NEW = (1, False), (2, True)
#: Results of the tasks that wait in the file, once a worker has run them.
RESULTS_TO_COME = {"second": 7, "third": 11, "last": 3, "due": 15, "held": 10, "part-waits": 4, "body": 6}
#: The queues in which they wait.
QUEUES = "filed,waits,held"


def write_old_file(path: Path) -> None:
    """Write the file. Nothing of this process may have it open."""
    with sqlite3.connect(path) as other:
        other.executescript(_DUMP.read_text())
        other.execute("PRAGMA journal_mode = WAL")
    other.close()
    assert schema_of(path) == OLD


def schema_of(path: Path) -> tuple[int, bool]:
    """Return the number in the header, and whether there is the table that came with version 2."""
    with sqlite3.connect(path) as other:
        (version,) = other.execute("PRAGMA user_version").fetchone()
        (tables,) = other.execute("SELECT count(*) FROM sqlite_master WHERE name = 'consumers'").fetchone()
    other.close()
    return int(version), bool(tables)
