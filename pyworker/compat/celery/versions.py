"""Which Celery versions the adapter runs, and what differs between them."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import TypeAlias

from pyworker.exceptions import ImproperlyConfigured

Version: TypeAlias = tuple[int, int]

OLDEST: Version = (5, 3)
#: The first version that has not been looked at.
TOO_NEW: Version = (5, 8)


def parse_version(text: str) -> Version:
    """Return major and minor of a version like ``5.6.0rc1``."""
    match = re.match(r"(\d+)\.(\d+)", text)
    if match is None:
        raise ImproperlyConfigured(f"celery: cannot read the version {text!r}")
    return int(match.group(1)), int(match.group(2))


def installed_version() -> Version:
    """Return major and minor of the installed Celery."""
    return parse_version(version("celery"))


def require_supported(found: Version | None = None) -> Version:
    """Return the installed version.

    Raises:
        ImproperlyConfigured: it is not one of 5.3 to 5.7.
    """
    found = found or installed_version()
    if not OLDEST <= found < TOO_NEW:
        raise ImproperlyConfigured(
            f"celery {found[0]}.{found[1]} is not supported: pyworker runs applications of celery "
            f"{OLDEST[0]}.{OLDEST[1]} to {TOO_NEW[0]}.{TOO_NEW[1] - 1}"
        )
    return found
