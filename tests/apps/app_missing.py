"""A module without an app."""

nothing = 1
