"""Remote control, under the name of Celery's module."""

from __future__ import annotations

from pyworker.control_client import ControlClient, Inspect, flatten_replies

__all__ = ["Control", "Inspect", "flatten_reply"]

Control = ControlClient
flatten_reply = flatten_replies
