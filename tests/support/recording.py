"""What is published to a Redis server: read off its command stream, by example."""

from __future__ import annotations

import base64
import codecs
import json
import os
import re
import socket
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import redis

from support.waiting import eventually

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

_ARGUMENT = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_READY_STATES = frozenset({"SUCCESS", "FAILURE", "REVOKED"})


class Recorder:
    """Watches a server's commands and keeps every message that is pushed to a queue.

    ``client`` messages are those that this process sent, ``worker`` messages all others.
    """

    def __init__(self, url: str) -> None:
        self.redis = redis.Redis.from_url(url, decode_responses=True)
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 0))
        self._messages: list[dict[str, Any]] = []
        self._marks: set[str] = set()
        self._mark_number = 0
        self._thread = threading.Thread(target=self._read, name="recorder", daemon=True)

    def __enter__(self) -> Self:
        self._socket.sendall(b"MONITOR\r\n")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
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
                self._messages.append(message)

    # -- by example

    def begin(self) -> None:
        """Forget what came before."""
        self.settle()
        self._messages.clear()

    def take(self) -> dict[str, list[dict[str, Any]]]:
        """Return this process's messages and everybody else's, each in the order of publishing."""
        own = f"gen{os.getpid()}@"
        taken: dict[str, list[dict[str, Any]]] = {"client": [], "worker": []}
        for message in self._messages:
            is_own = message["headers"]["origin"].startswith(own)
            taken["client" if is_own else "worker"].append(message)
        return taken

    def messages(self, task_name: str) -> list[dict[str, Any]]:
        """Return what was published of one task."""
        return [message for message in self._messages if message["headers"]["task"] == task_name]

    def wait_until_done(self) -> None:
        """Wait until every task that was published, and every task that these announce, has its result."""

        def is_done() -> bool:
            self.settle()
            waited = {task_id for message in list(self._messages) for task_id in _announced(message)}
            missing = {task_id for task_id in waited if not self._has_result(task_id)}
            assert not missing, f"no results yet of {missing}"
            count = len(self._messages)
            self.settle()
            return count == len(self._messages)

        eventually(is_done, deadline_s=30, what="every published task has its result")

    def _has_result(self, task_id: str) -> bool:
        stored = self.redis.get(f"celery-task-meta-{task_id}")
        return stored is not None and json.loads(stored)["status"] in _READY_STATES  # type: ignore[arg-type]

    def settle(self) -> None:
        """Wait until everything that the server has done so far is recorded."""
        self._mark_number += 1
        mark = f"mark {os.getpid()} {self._mark_number}"
        self.redis.echo(mark)
        eventually(lambda: mark in self._marks, what="the recorder has caught up")


def _announced(message: dict[str, Any]) -> set[str]:
    """The ids of the tasks that will have a result when all is over."""
    headers, embedded = message["headers"], message["body"][2]
    ids = set() if headers["ignore_result"] else {headers["id"]}
    for signature in (*(embedded["chain"] or ()), *([embedded["chord"]] if embedded["chord"] else ())):
        ids |= _ids_of(signature)
    return ids


def _ids_of(signature: dict[str, Any]) -> set[str]:
    kind, parts, options = signature["subtask_type"], signature["kwargs"], signature["options"]
    members: list[Any] = []
    if kind in ("group", "chain"):
        members = list(parts["tasks"])
    elif kind == "chord":
        members = [parts["body"]]
    ids = {task_id for member in members for task_id in _ids_of(member)}
    if kind not in ("group", "chord") and "task_id" in options:
        ids.add(options["task_id"])
    return ids
