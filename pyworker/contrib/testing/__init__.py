"""A real worker inside a test's process."""
