"""The shop's Celery app, as Celery's Django guide writes it."""

import os

from celery import Celery

from shop.observe import observe

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
observe()
app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
