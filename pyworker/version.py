"""The version, which a test holds equal to the native core's; loading that just to know it would cost more."""

from __future__ import annotations

__version__ = "0.1.0"
