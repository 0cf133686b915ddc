"""Fails when imported."""

number = 1 / 0
