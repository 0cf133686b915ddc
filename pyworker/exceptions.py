"""Exceptions of pyworker. Names and meaning are Celery's where Celery has them."""

from __future__ import annotations


class PyworkerError(Exception):
    """Base of everything pyworker raises by itself."""


class ImproperlyConfigured(PyworkerError):
    """A setting or option is missing, wrong, or not supported; the text names it."""
