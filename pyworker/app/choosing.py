"""Which application is meant when none is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyworker.current import find_current_app
from pyworker.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from pyworker.app.base import Celery


def app_or_default(app: Celery | None = None) -> Celery:
    """Return the given app, else the current one.

    Raises:
        ImproperlyConfigured: there is none; none is made up.
    """
    found = app if app is not None else find_current_app()
    if found is None:
        raise ImproperlyConfigured("there is no app yet: make one with pyworker.Celery(...)")
    return found
