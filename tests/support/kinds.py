"""The kinds of worker that one test body runs against."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A worker engine and the lane that the app's tasks are put into."""

    name: str
    #: The word that changes on the command line.
    command: tuple[str, ...]
    #: What ``apps/lanes.py`` does at import: nothing, or what keeps the tasks out of the fast lane.
    lane: str

    @property
    def is_stock(self) -> bool:
        """Whether this is Celery's own worker, the control."""
        return self.name.startswith("stock")


_STOCK = (sys.executable, "-m", "celery")
_OURS = (sys.executable, "-m", "pyworker")

STOCK = Kind("stock", _STOCK, "fast")
FAST = Kind("pyworker-fast", _OURS, "fast")
RECEIVERS = Kind("pyworker-receivers", _OURS, "receivers")
LIBRARY = Kind("pyworker-library", _OURS, "library")
PARENT = Kind("pyworker-parent", _OURS, "parent")

#: Ours on an application of our own (``apps/either.py`` with ``TEST_LIBRARY=pyworker``); asked for by name alone.
OWN = Kind("pyworker-own", _OURS, "fast")

KINDS = {kind.name: kind for kind in (STOCK, FAST, RECEIVERS, LIBRARY, PARENT)}
#: Celery's worker with each lane's app: shows that the lanes' apps themselves are sound.
CONTROLS = {f"stock-{lane}": Kind(f"stock-{lane}", _STOCK, lane) for lane in ("receivers", "library", "parent")}

#: The brokers of the conformance suite (``support.places``).
PLACES = ("on-redis", "on-sqlite", "on-memory")
