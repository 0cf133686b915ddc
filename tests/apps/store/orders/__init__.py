"""The store's one Django app."""
