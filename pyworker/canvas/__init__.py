"""Composing tasks: signatures, chains, groups and chords."""

from __future__ import annotations

from pyworker.canvas.chain import chain
from pyworker.canvas.chord import chord
from pyworker.canvas.group import group
from pyworker.canvas.maps import chunks, xmap, xstarmap
from pyworker.canvas.signature import Signature, maybe_signature, signature
from pyworker.canvas.stamping import StampingVisitor

__all__ = [
    "Signature",
    "StampingVisitor",
    "chain",
    "chord",
    "chunks",
    "group",
    "maybe_signature",
    "maybe_subtask",
    "signature",
    "subtask",
    "xmap",
    "xstarmap",
]

#: The names of Celery 3.
subtask = signature
maybe_subtask = maybe_signature
