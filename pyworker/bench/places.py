"""Where a run's queue and results are when no server is used: a private folder, as each library spells it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyworker.bench.errors import BenchError

#: Subjects that work without a server.
ON_A_FILE = frozenset({"pyworker", "celery", "huey", "huey-synced", "celery-sqlalchemy", "celery-filesystem"})
#: Those that work in no other way.
ONLY_ON_A_FILE = frozenset({"huey-synced", "celery-sqlalchemy", "celery-filesystem"})


@dataclass(frozen=True, kw_only=True)
class Place:
    """Broker and result store of one run."""

    broker_url: str
    backend_url: str
    transport_options: Mapping[str, Any] = field(default_factory=dict)


def require_place(name: str, *, on_a_file: bool) -> None:
    """Check that a subject can work there.

    Raises:
        BenchError: it cannot.
    """
    if on_a_file and name not in ON_A_FILE:
        raise BenchError(f"{name}: has no SQLite broker; on a file there are {', '.join(sorted(ON_A_FILE))}")
    if not on_a_file and name in ONLY_ON_A_FILE:
        raise BenchError(f"{name}: needs --broker sqlite")


def private_place(directory: str, name: str) -> Place:
    """Return where the subject of that name works inside an empty folder."""
    if name == "celery-sqlalchemy":
        # Two files: its results and its messages would keep each other waiting in one.
        return Place(
            broker_url=f"sqla+sqlite:///{directory}/bench.db", backend_url=f"db+sqlite:///{directory}/results.db"
        )
    if name == "celery-filesystem":
        folders = {name: os.path.join(directory, name) for name in ("messages", "control", "results")}
        for folder in folders.values():
            os.mkdir(folder)
        options = {
            "data_folder_in": folders["messages"],
            "data_folder_out": folders["messages"],
            "control_folder": folders["control"],
        }
        return Place(broker_url="filesystem://", backend_url=f"file://{folders['results']}", transport_options=options)
    # Huey's own default leaves writing to the system.
    url = f"sqlite:///{directory}/bench.db" + ("?durable=0" if name == "huey" else "")
    return Place(broker_url=url, backend_url=url)
