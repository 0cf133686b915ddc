"""Imports what does not exist."""

import no_such_module_anywhere  # noqa: F401 - the point of it
