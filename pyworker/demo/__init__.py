"""``pyworker demo``: a private Redis, a worker, tasks of several kinds, and what came of them."""

from __future__ import annotations
