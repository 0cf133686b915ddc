"""A small Django project with django-celery-results, sentry-sdk and OpenTelemetry."""
