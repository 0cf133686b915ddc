"""The guide's project."""
