"""Notices and an engine as tests make them: the native ones exist only inside a running node."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from kombu.serialization import dumps

_TEMPLATE: dict[str, Any] = {
    "lang": "py",
    "shadow": None,
    "eta": None,
    "expires": None,
    "group": None,
    "retries": 0,
    "timelimit": [None, None],
    "parent_id": None,
    "argsrepr": "()",
    "kwargsrepr": "{}",
    "origin": "test",
}


@dataclass(kw_only=True)
class Shown:
    """The fields of ``pyworker._native.Notice``."""

    kind: str = "delivery"
    reason: str = ""
    handle: int = 7
    task_index: int = -1
    task_id: str = ""
    task_name: str = ""
    headers: bytes = b""
    properties: bytes = b""
    body: bytes = b""
    content_type: str = ""
    content_encoding: str = ""
    redelivered: bool = False
    queue: str = "celery"
    raw: bytes = b""
    pid: int = 0
    index: int = 0
    status: int = 0
    seconds: float = 0.0
    text: str = ""
    requeue: bool = False


def job(
    reason: str,
    name: str,
    task_id: str,
    args: tuple[Any, ...] = (),
    *,
    serializer: str = "json",
    headers: dict[str, Any] | None = None,
    embed: dict[str, Any] | None = None,
    **fields: Any,
) -> Shown:
    """Return a notice about a protocol 2 message."""
    content_type, content_encoding, body = dumps((list(args), {}, embed or {}), serializer=serializer)
    all_headers = _TEMPLATE | {"task": name, "id": task_id, "root_id": task_id} | (headers or {})
    properties = {
        "correlation_id": task_id,
        "reply_to": "reply",
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": "celery"},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": "tag-" + task_id,
    }
    content: dict[str, Any] = {
        "task_id": task_id,
        "task_name": name,
        "headers": json.dumps(all_headers).encode(),
        "properties": json.dumps(properties).encode(),
        "body": body if isinstance(body, bytes) else body.encode(),
        "content_type": content_type,
        "content_encoding": content_encoding,
    }
    return Shown(reason=reason, **(content | fields))


@dataclass
class RecordingEngine:
    """An engine that only remembers what it was told."""

    running: dict[str, int] = field(default_factory=dict)
    held: dict[str, list[Shown]] = field(default_factory=dict)
    revoked: list[str] = field(default_factory=list)
    terminated: list[tuple[str, int]] = field(default_factory=list)
    replaced: list[tuple[Any, ...]] = field(default_factory=list)

    def revoke(self, task_ids: list[str]) -> None:
        """Remember revoked ids."""
        self.revoked += task_ids

    def terminate(self, task_ids: list[str], *, signal: int) -> list[str]:
        """Remember what was signalled among the running."""
        hit = [task_id for task_id in task_ids if task_id in self.running]
        self.terminated += [(task_id, signal) for task_id in hit]
        return hit

    def replace(self, *content: Any) -> None:
        """Remember new content."""
        self.replaced.append(content)

    def jobs(self, which: str) -> list[Shown]:
        """Return the jobs a test put there."""
        return self.held.get(which, [])

    def children(self) -> list[tuple[int, int, int]]:
        """Return two children."""
        return [(0, 101, 3), (1, 102, 1)]

    def counters(self) -> dict[str, int]:
        """Return counters of four started jobs."""
        return {"started": 4, "task:unit.work": 3}
