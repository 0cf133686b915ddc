"""Signers, and kombu's registry as it was after each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from kombu.serialization import registry

from support.signing import PASSWORD, Signers

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def signers(tmp_path_factory: pytest.TempPathFactory) -> Signers:
    """Two who are known, the second with a password; a stranger; an expired one; one with another key."""
    made = Signers(tmp_path_factory.mktemp("signers"))
    made.add("first")
    made.add("second", password=PASSWORD)
    made.add("stranger", is_known=False)
    made.add("expired", is_known=False, days=-1)
    made.add("elliptic", is_known=False, is_rsa=False)
    return made


@pytest.fixture(autouse=True)
def registry_restored() -> Iterator[None]:
    """Undo what :func:`setup_security` does to the whole process."""
    names = ("_encoders", "_decoders", "type_to_name", "name_to_type")
    tables = {name: dict(getattr(registry, name)) for name in names}
    disabled = set(registry._disabled_content_types)
    defaults = registry._default_encode, registry._default_content_type, registry._default_content_encoding
    yield
    for name, table in tables.items():
        getattr(registry, name).clear()
        getattr(registry, name).update(table)
    registry._disabled_content_types = disabled
    registry._default_encode, registry._default_content_type, registry._default_content_encoding = defaults
