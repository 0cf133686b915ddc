"""The gate on Celery's version."""

from __future__ import annotations

import pytest

from pyworker.compat.celery.versions import installed_version, parse_version, require_supported
from pyworker.exceptions import ImproperlyConfigured


@pytest.mark.parametrize(("text", "expected"), [("5.3.6", (5, 3)), ("5.7.0", (5, 7)), ("5.6.0rc1", (5, 6))])
def test_version_is_read(text: str, expected: tuple[int, int]) -> None:
    assert parse_version(text) == expected


@pytest.mark.parametrize("found", [(5, 3), (5, 7)])
def test_supported_version_passes(found: tuple[int, int]) -> None:
    assert require_supported(found) == found


@pytest.mark.parametrize("found", [(4, 4), (5, 2), (5, 8), (6, 0)])
def test_other_version_is_refused(found: tuple[int, int]) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"5\.3 to 5\.7"):
        require_supported(found)


def test_installed_version_is_supported() -> None:
    assert require_supported() == installed_version()


def test_nonsense_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="cannot read"):
        parse_version("new")
