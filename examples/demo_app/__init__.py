"""The application of ``make demo``: an ordinary Celery application."""
