"""Additions that applications import by name."""
