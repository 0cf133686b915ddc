"""What ``--config`` can name."""

from __future__ import annotations

task_default_queue = "of-the-module"
broker_url = "redis://localhost:2/0"
