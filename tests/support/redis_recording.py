"""What is published to a Redis server: read off its command stream."""

from __future__ import annotations

import base64
import codecs
import json
import os
import re
import socket
import threading
from typing import Any
from urllib.parse import urlsplit

import redis

from support.recording import Recorder
from support.waiting import eventually

_ARGUMENT = re.compile(rb'"((?:[^"\\]|\\.)*)"')


class RedisRecorder(Recorder):
    """Watches a server's commands and keeps every message that is pushed to a queue."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.redis = redis.Redis.from_url(url, decode_responses=True)
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 0))
        self._marks: set[str] = set()
        self._mark_number = 0
        self._thread = threading.Thread(target=self._read, name="recorder", daemon=True)
        self._socket.sendall(b"MONITOR\r\n")
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        self.redis.close()

    def _read(self) -> None:
        with self._socket.makefile("rb") as lines:
            for line in lines:
                arguments = [codecs.escape_decode(found)[0] for found in _ARGUMENT.findall(line)]
                if not arguments:
                    continue
                command = arguments[0].upper()  # type: ignore[union-attr]
                if command == b"LPUSH":
                    self._keep(arguments[1:])
                elif command == b"ECHO":
                    self._marks.add(arguments[1].decode())  # type: ignore[union-attr]

    def _keep(self, arguments: list[Any]) -> None:
        key, *values = arguments
        for value in values:
            if value.startswith(b'{"body"'):
                message = json.loads(value)
                message["key"] = key.decode()
                message["body"] = json.loads(base64.b64decode(message["body"]))
                self.keep(message)

    def settle(self) -> None:
        """Wait until everything that the server has done so far is recorded."""
        self._mark_number += 1
        mark = f"mark {os.getpid()} {self._mark_number}"
        self.redis.echo(mark)
        eventually(lambda: mark in self._marks, what="the recorder has caught up")
