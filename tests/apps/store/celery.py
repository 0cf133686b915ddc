"""The store's application, as Celery's Django guide writes it."""

import os
import sys

sys.modules["celery"] = None  # type: ignore[assignment]

from pyworker import Celery  # noqa: E402

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "store.settings")
app = Celery("store")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
