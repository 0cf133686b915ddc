"""The command line hands options to the application through the environment, which is the whole test process's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """Put the environment back after every test."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
