"""Celery's shared tasks: every application of the process takes them in, also one of a test that runs later."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from celery import _state

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def shared_tasks_kept(*, begin_with_none: bool = False) -> Iterator[None]:
    """Forget the tasks that were shared in the block; with ``begin_with_none`` hide those of before from it as well."""
    before = set(_state._on_app_finalizers)
    if begin_with_none:
        _state._on_app_finalizers = {each for each in before if each.__module__ == "celery.app.builtins"}
    try:
        yield
    finally:
        _state._on_app_finalizers = before
