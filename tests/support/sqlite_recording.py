"""What is published to a SQLite file: a trigger in it keeps a copy of every message.

Nothing else in the process of a test may open the file with a second copy of the SQLite library: the locks of both
would undo each other. So a process of its own reads the copies.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

from support.recording import Recorder

_READER = Path(__file__).with_name("sqlite_reader.py")


class SqliteRecorder(Recorder):
    """Asks the reading process for what came since it was last asked. The file's tables have to be there."""

    def __init__(self, url: str) -> None:
        super().__init__()
        path = url.partition("://")[2].removeprefix("/")
        self._reader = subprocess.Popen(
            [sys.executable, str(_READER), path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.settle()

    def close(self) -> None:
        """End the reading process."""
        self._reader.communicate(timeout=60)

    def settle(self) -> None:
        """Fetch everything that has been committed so far."""
        assert self._reader.stdin is not None
        assert self._reader.stdout is not None
        self._reader.stdin.write("\n")
        self._reader.stdin.flush()
        for queue, raw in json.loads(self._reader.stdout.readline()):
            message = json.loads(raw)
            if "task" in message["headers"]:
                self.keep({**message, "key": queue, "body": json.loads(base64.b64decode(message["body"]))})
