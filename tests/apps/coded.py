"""One application for both libraries: ``TEST_LIBRARY`` says whose API defines it.

It accepts every serializer; with ``TEST_SIGNERS``, a directory of keys, it takes and sends signed messages alone.
"""

from __future__ import annotations

import importlib
import os
from types import SimpleNamespace
from typing import Any

SERIALIZERS = ("json", "pickle", "yaml", "msgpack")


def make(library: Any, broker: str, backend: str) -> SimpleNamespace:
    """Define the application with a library: ``pyworker`` or ``celery``."""
    app = library.Celery("coded", broker=broker, backend=backend, set_as_current=False)
    # With TEST_NO_RETRY a worker ends when it cannot connect.
    app.conf.broker_connection_retry_on_startup = "TEST_NO_RETRY" not in os.environ
    app.conf.accept_content = list(SERIALIZERS)
    app.conf.result_serializer = os.environ.get("TEST_RESULT_SERIALIZER", "json")
    if "TEST_SIGNERS" in os.environ:
        sign(app, os.environ["TEST_SIGNERS"], os.environ["TEST_SIGNER"])

    @app.task(name="coded.echo", shared=False)
    def echo(*args: Any, **kwargs: Any) -> Any:
        return [list(args), kwargs]

    @app.task(name="coded.kinds", shared=False)
    def kinds(*args: Any) -> list[list[str]]:
        return [[type(value).__name__, repr(value)] for value in args]

    return SimpleNamespace(app=app, library=library, echo=echo, kinds=kinds)


def sign(app: Any, directory: str, name: str) -> None:
    """Have everything signed; the key of ``second`` has a password."""
    app.conf.task_serializer = app.conf.result_serializer = "auth"
    app.conf.accept_content = ["auth"]
    app.conf.security_key = f"{directory}/{name}.key"
    app.conf.security_certificate = f"{directory}/{name}.pem"
    app.conf.security_cert_store = f"{directory}/known"
    if name == "second":
        app.conf.security_key_password = b"between us"
    # Given: Celery's own method does not look at the setting.
    app.setup_security(digest="sha512")


if "TEST_BROKER_URL" in os.environ:
    app = make(
        importlib.import_module(os.environ.get("TEST_LIBRARY", "pyworker")),
        os.environ["TEST_BROKER_URL"],
        os.environ["TEST_RESULT_BACKEND"],
    ).app
