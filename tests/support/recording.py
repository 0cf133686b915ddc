"""What is published to a broker, by example; how it is overheard is each broker's own."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self


class Recorder(ABC):
    """Listens to a broker and keeps every task message.

    ``client`` messages are those that this process sent, ``worker`` messages all others. A kept message has the form of
    kombu's virtual transports, whatever the broker: ``body`` (decoded), ``headers``, ``properties``, ``content-type``,
    ``content-encoding``, and ``key``, which says where it went.
    """

    def __init__(self) -> None:
        self._messages: list[dict[str, Any]] = []

    def keep(self, message: dict[str, Any]) -> None:
        """Keep a message if it is a task's and not, for example, an answer to remote control."""
        if "task" in message["headers"]:
            self._messages.append(message)

    @abstractmethod
    def settle(self) -> None:
        """Wait until everything that has been published so far is recorded."""

    @abstractmethod
    def close(self) -> None:
        """Stop listening."""

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

    def wait_until_done(self, is_ready: Callable[[str], bool]) -> None:
        """Wait until every task that was published, and every task that these announce, has its result.

        Args:
            is_ready: whether the task of an id has its result.
        """

        def is_done() -> bool:
            self.settle()
            waited = {task_id for message in list(self._messages) for task_id in _announced(message)}
            missing = {task_id for task_id in waited if not is_ready(task_id)}
            assert not missing, f"no results yet of {missing}"
            count = len(self._messages)
            self.settle()
            return count == len(self._messages)

        eventually(is_done, deadline_s=60, what="every published task has its result")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


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
