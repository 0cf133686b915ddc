"""Celery's message protocol 1 (``task_protocol=1``), for consumers that know nothing newer: all is in the body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyworker.canvas.signature import maybe_signature
from pyworker.publish.messages import Message
from pyworker.saferepr import saferepr


def protocol_1_of(message: Message, own_headers: Mapping[str, Any] | None, *, is_utc: bool) -> Message:
    """Return a message of protocol 2 as one of protocol 1.

    What protocol 1 has no place for (stamps, the root's and the parent's id, ``ignore_result``, the shadow name) is
    left out; the rest of a chain becomes callbacks, each linked to the one before.

    Args:
        message: the message.
        own_headers: the ``headers`` of the call.
        is_utc: whether times are in UTC (``enable_utc``).
    """
    headers = message.headers
    args, kwargs, embedded = message.body
    callbacks = embedded["callbacks"]
    if embedded["chain"]:
        callbacks = [*(callbacks or ()), _linked(embedded["chain"])]
    body = {
        "task": headers["task"],
        "id": headers["id"],
        "args": args,
        "kwargs": kwargs,
        "group": headers["group"],
        "group_index": headers["group_index"],
        "retries": headers["retries"],
        "eta": headers["eta"],
        "expires": headers["expires"],
        "utc": is_utc,
        "callbacks": callbacks,
        "errbacks": embedded["errbacks"],
        "timelimit": headers["timelimit"],
        "taskset": headers["group"],
        "chord": embedded["chord"],
    }
    return message._replace(headers=dict(own_headers or {}), body=body)


def _linked(following: Sequence[Any]) -> Any:
    """The next task of a chain, the last of these, with the others behind it."""
    step = maybe_signature(following[-1]).clone()
    if following[:-1]:
        step.link(_linked(following[:-1]))
    return step


def event_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """What the event ``task-sent`` says of a message of protocol 1."""
    fields = {name: body[name] for name in ("retries", "eta", "expires")}
    return {**fields, "args": saferepr(body["args"]), "kwargs": saferepr(body["kwargs"])}
