"""An application of pyworker that connects to nothing and names no settings."""

from __future__ import annotations

import pyworker

app = pyworker.Celery("own", broker="redis://localhost:1/0", set_as_current=False)
