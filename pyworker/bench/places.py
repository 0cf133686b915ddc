"""Where each subject can work, and what it needs there: a private folder as its library spells it, or options."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyworker.bench.errors import BenchError
from pyworker.bench.options import PRIVATE_FILE, PRIVATE_RABBITMQ
from pyworker.transport.amqp_url import is_amqp
from pyworker.transport.sqlite_url import is_sqlite_url

#: Subjects that work without a server.
ON_A_FILE = frozenset({"pyworker", "celery", "huey", "huey-synced", "celery-sqlalchemy", "celery-filesystem"})
#: Those that work in no other way.
ONLY_ON_A_FILE = frozenset({"huey-synced", "celery-sqlalchemy", "celery-filesystem"})
#: Subjects that are others with transport options of their own on RabbitMQ, and nothing anywhere else.
RABBITMQ_OPTIONS: Mapping[str, Mapping[str, Any]] = {"celery-confirmed": {"confirm_publish": True}}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Broker and result store of one run."""

    broker_url: str
    backend_url: str
    transport_options: Mapping[str, Any] = field(default_factory=dict)


def is_on_rabbitmq(broker: str | None) -> bool:
    """Whether the option ``--broker`` names RabbitMQ."""
    return broker == PRIVATE_RABBITMQ or (broker is not None and is_amqp(broker))


def require_place(name: str, broker: str | None) -> None:
    """Check that a subject can work on the broker that the option ``--broker`` names.

    Raises:
        BenchError: it cannot.
    """
    on_a_file = broker == PRIVATE_FILE or is_sqlite_url(broker)
    if on_a_file and name not in ON_A_FILE:
        raise BenchError(f"{name}: has no SQLite broker; on a file there are {', '.join(sorted(ON_A_FILE))}")
    if not on_a_file and name in ONLY_ON_A_FILE:
        raise BenchError(f"{name}: needs --broker sqlite")
    if name in RABBITMQ_OPTIONS and not is_on_rabbitmq(broker):
        raise BenchError(f"{name}: needs --broker rabbitmq")


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
