"""Django settings of the store, with pyworker's in the usual namespace."""

import os

SECRET_KEY = "only for tests"
USE_TZ = True
TIME_ZONE = "Europe/Paris"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "store.orders.apps.OrdersConfig"]
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["TEST_DATABASE"], "CONN_MAX_AGE": None}
}

CELERY_BROKER_URL = os.environ["TEST_BROKER_URL"]
CELERY_RESULT_BACKEND = os.environ["TEST_RESULT_BACKEND"]
CELERY_TASK_TRACK_STARTED = True
