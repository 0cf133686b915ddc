"""Routing, under the name of Celery's module."""

from __future__ import annotations

from pyworker.routing import MapRoute, Router, prepare

__all__ = ["MapRoute", "Router", "prepare"]
