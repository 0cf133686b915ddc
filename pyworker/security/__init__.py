"""Signed messages: the serializer ``auth`` and :func:`setup_security`, under the names of ``celery.security``.

A message is serialized, signed with this program's private key and sent with the name of the certificate that it was
signed by; whoever receives it verifies the signature with that certificate from a store of its own before anything is
decoded. Needs the package ``cryptography`` (``pip install pyworker[auth]``).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kombu.serialization import disable_insecure_serializers, registry

from pyworker.current import find_current_app
from pyworker.exceptions import ImproperlyConfigured

try:
    from pyworker.security.serialization import register_auth
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] != "cryptography":
        raise
    raise ImproperlyConfigured("the auth serializer needs cryptography: pip install pyworker[auth]") from error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyworker.app import Celery

__all__ = ["disable_untrusted_serializers", "setup_security"]

_NAME = "auth"


def setup_security(
    allowed_serializers: Iterable[str] | None = None,
    key: str | None = None,
    key_password: bytes | str | None = None,
    cert: str | None = None,
    store: str | None = None,
    digest: str | None = None,
    serializer: str = "json",
    app: Celery | None = None,
) -> None:
    """Sign what this process sends and accept nothing unsigned. Holds for every app of the process.

    Args:
        allowed_serializers: serializers that stay enabled in kombu, and that may be inside a signed message.
        key: file of the private key, ``security_key`` without it.
        key_password: its password, ``security_key_password`` without it.
        cert: file of the certificate, ``security_certificate`` without it.
        store: directory or pattern of the certificates of everybody whose messages are accepted,
            ``security_cert_store`` without it.
        digest: name of the hash, ``security_digest`` without it. Both sides need the same.
        serializer: what is signed: the serializer inside.
        app: whose settings are used; the current app's if not given.

    Raises:
        ImproperlyConfigured: ``task_serializer`` and ``accept_content`` are not ``auth``, a setting is missing, a file
            cannot be read.
        SecurityError: a key or certificate is unusable or expired.
    """
    found = app or find_current_app()
    if found is None:
        raise ImproperlyConfigured("there is no current app whose settings could be used: give app=")
    conf = found.conf
    allowed = None if allowed_serializers is None else list(allowed_serializers)
    disable_insecure_serializers(allowed)
    if conf.task_serializer != _NAME or list(conf.accept_content or ()) != [_NAME]:
        raise ImproperlyConfigured(
            "signed messages need task_serializer='auth' and accept_content=['auth']: there is no point in signing "
            f"what is not verified (they are {conf.task_serializer!r} and {conf.accept_content!r})"
        )
    given = {
        "security_key": key or conf.security_key,
        "security_certificate": cert or conf.security_certificate,
        "security_cert_store": store or conf.security_cert_store,
    }
    missing = [name for name, value in given.items() if not value]
    if missing:
        raise ImproperlyConfigured(f"the auth serializer needs {', '.join(missing)}")
    register_auth(
        _text_of(given, "security_key"),
        key_password or conf.security_key_password,
        _text_of(given, "security_certificate"),
        str(given["security_cert_store"]),
        digest or conf.security_digest,
        serializer,
        allowed=allowed or (),
    )
    registry._set_default_serializer(_NAME)


def disable_untrusted_serializers(whitelist: Iterable[str] | None = None) -> None:
    """Disable all of kombu's serializers but these, for every app of the process."""
    disable_insecure_serializers(allowed=None if whitelist is None else list(whitelist))


def _text_of(given: dict[str, Any], name: str) -> str:
    try:
        return Path(given[name]).read_text()
    except OSError as error:
        raise ImproperlyConfigured(f"{name}: {error}") from error
