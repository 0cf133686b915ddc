"""One stage (server, worker, producer) per kind of worker and module, shared by the module's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.kinds import Kind


@pytest.fixture(scope="module")
def stage(kind: Kind, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """The module's shared stage; a module says its app in ``APP`` and its options in ``WORKER_OPTIONS``."""
    app = getattr(request.module, "APP", "tasks")
    options = getattr(request.module, "WORKER_OPTIONS", ("-c", "2"))
    with Stage(kind, app, options=options) as opened:
        yield opened
