"""The project's one Django app."""
