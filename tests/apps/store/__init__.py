"""A small Django project whose tasks are defined with pyworker's own API, without Celery."""

from store.celery import app

__all__ = ["app"]
