"""Celery's results unsubscribe when they are collected, even after their server's end."""

from __future__ import annotations

import gc

import celery.result


def release_stock_results() -> None:
    """Let all stock results that are alive go without a word to their server."""
    for leftover in gc.get_objects():
        if isinstance(type(leftover), type) and issubclass(type(leftover), celery.result.AsyncResult):
            leftover.backend = None
