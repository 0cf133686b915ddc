"""Result stores, chosen by the scheme of ``result_backend``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from pyworker.backends.base import Backend, DisabledBackend
from pyworker.exceptions import ImproperlyConfigured
from pyworker.redacting import without_password

if TYPE_CHECKING:
    from pyworker.app import Celery

#: Modules by scheme; loaded when first used, because each brings its client library.
_MODULES = {
    "redis": "pyworker.backends.redis",
    "redis+socket": "pyworker.backends.redis",
    "socket": "pyworker.backends.redis",
    "unix": "pyworker.backends.redis",
    "rediss": "pyworker.backends.redis",
    "sentinel": "pyworker.backends.redis",
}
#: Results as messages; the broker has to be RabbitMQ.
RPC_SCHEME = "rpc"
_SQLITE_SCHEMES = frozenset({"sqlite", "memory"})
_NONE = frozenset({"disabled", "disabled://"})


def make_backend(app: Celery) -> Backend:
    """Return the result store that the settings name.

    Raises:
        ImproperlyConfigured: ``result_backend`` names none that is supported.
    """
    url = app.conf.result_backend
    if not url or url in _NONE:
        return DisabledBackend(app)
    if not isinstance(url, str):
        return cast("Backend", url(app))
    scheme = url.partition("://")[0].lower()
    if scheme in _SQLITE_SCHEMES:
        return cast("Backend", import_module("pyworker.backends.sqlite").SqliteBackend(app, url))
    if scheme == RPC_SCHEME:
        return cast("Backend", import_module("pyworker.backends.rpc").RpcBackend(app, url))
    if scheme not in _MODULES:
        raise ImproperlyConfigured(
            f"result_backend: no result store for {without_password(scheme)!r}; "
            "redis://, sqlite:// and rpc:// are known"
        )
    return cast("Backend", import_module(_MODULES[scheme]).RedisBackend(app, url))
