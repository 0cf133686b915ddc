"""Finds a peer by the name given on the command line."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING

from pyworker.bench.errors import BenchError

if TYPE_CHECKING:
    from pyworker.bench.peers.base import Peer

#: Name on the command line -> (module of this package, distribution it needs).
_MODULES = {
    "celery": ("celery_peer", "celery"),
    "ideal": ("ideal_peer", "celery"),
    "bare": ("bare_peer", "celery"),
    "dramatiq": ("dramatiq_peer", "dramatiq"),
    "rq": ("rq_peer", "rq"),
    "huey": ("huey_peer", "huey"),
    "huey-synced": ("huey_peer", "huey"),
    "taskiq": ("taskiq_peer", "taskiq_redis"),
    "arq": ("arq_peer", "arq"),
    "saq": ("saq_peer", "saq"),
    "celery-sqlalchemy": ("celery_peer", "sqlalchemy"),
    "celery-filesystem": ("celery_peer", "celery"),
    "celery-confirmed": ("celery_peer", "celery"),
}
NAMES = ("pyworker", *_MODULES)


def find_peer(name: str, *, app_kind: str, payload: str) -> Peer:
    """Return the peer of that name.

    Args:
        name: one of ``NAMES``.
        app_kind: ``celery`` or ``pyworker``: on what library the application is built that pyworker runs.
        payload: text given to every task beside its index.

    Raises:
        BenchError: there is no such peer, or its library is not installed.
    """
    if name == "pyworker":
        if app_kind == "pyworker":
            return _construct("pyworker_peer", "PyworkerPeer", "pyworker (own app)", payload)
        _require("celery", "pyworker with --app-kind celery")
        return _construct("celery_peer", "CeleryPeer", "pyworker", "pyworker", payload)
    if name not in _MODULES:
        raise BenchError(f"unknown worker {name!r}; known: {', '.join(NAMES)}")
    module, distribution = _MODULES[name]
    _require(distribution, name)
    if module == "celery_peer":
        return _construct(module, "CeleryPeer", name, "celery", payload)
    if module == "huey_peer":
        return _construct(module, "HueyPeer", name, payload)
    return _construct(module, f"{name.capitalize()}Peer", payload)


def is_installed(name: str) -> bool:
    """Whether the library of a peer can be imported."""
    return importlib.util.find_spec(_MODULES[name][1]) is not None


def _require(distribution: str, name: str) -> None:
    if importlib.util.find_spec(distribution) is None:
        raise BenchError(f"{name}: {distribution} is not installed in this environment (pip install {distribution})")


def _construct(module: str, class_name: str, *arguments: str) -> Peer:
    # By name, because importing a peer's module imports its library.
    peer: Peer = getattr(importlib.import_module(f"pyworker.bench.peers.{module}"), class_name)(*arguments)
    return peer
