"""What can go wrong while measuring."""

from __future__ import annotations


class BenchError(Exception):
    """The measurement cannot be made or its results are wrong; the text says why and what to do."""
