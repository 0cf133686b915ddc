"""Reads what a trigger copies from a SQLite file. Run as a program, never imported.

Every line on standard input is answered with the messages that were published since the last one, as JSON.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from typing import Any

_PREPARE = """
CREATE TABLE IF NOT EXISTS recorded (number INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, body BLOB NOT NULL);
CREATE TRIGGER IF NOT EXISTS record AFTER INSERT ON messages BEGIN
    INSERT INTO recorded (queue, body) VALUES ((SELECT name FROM queues WHERE id = NEW.queue), NEW.body);
END;
"""


def main() -> None:
    """Read the file given."""
    file = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
    file.executescript(_PREPARE)
    last = 0
    for _ in sys.stdin:
        found: list[tuple[int, str, Any]] = file.execute(
            "SELECT number, queue, body FROM recorded WHERE number > ? ORDER BY number", (last,)
        ).fetchall()
        last = found[-1][0] if found else last
        print(json.dumps([[queue, bytes(body).decode()] for _, queue, body in found]), flush=True)
    file.close()


if __name__ == "__main__":
    main()
