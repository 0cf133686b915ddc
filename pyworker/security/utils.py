"""What the modules of signing share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cryptography.exceptions import InvalidKey, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS

from pyworker.exceptions import ImproperlyConfigured, SecurityError

__all__ = ["get_digest_algorithm", "reraise_errors"]

_CRYPTOGRAPHYS = (InvalidKey, InvalidSignature, UnsupportedAlgorithm)


def get_digest_algorithm(digest: str = "sha256") -> hashes.HashAlgorithm:
    """Return the hash of a name (``sha256``, ``sha512``, ``sha3_256``).

    Raises:
        ImproperlyConfigured: there is none of that name.
    """
    kind = getattr(hashes, digest.upper(), None) if isinstance(digest, str) else None
    if not (isinstance(kind, type) and issubclass(kind, hashes.HashAlgorithm)):
        raise ImproperlyConfigured(f"security_digest: {digest!r} is no hash of the cryptography package")
    try:
        return kind()
    except TypeError as error:
        raise ImproperlyConfigured(f"security_digest: {digest!r} has no fixed length") from error


def padding_for(digest: hashes.HashAlgorithm) -> PSS:
    """Return the padding of signatures, Celery's: PSS with the longest salt."""
    return PSS(mgf=MGF1(digest), salt_length=PSS.MAX_LENGTH)


@contextmanager
def reraise_errors(msg: str = "{0!r}", errors: tuple[type[Exception], ...] | None = None) -> Iterator[None]:
    """Turn errors into a :class:`SecurityError`.

    Args:
        msg: its text, with a place for the error.
        errors: which ones; those of the cryptography package if not given.
    """
    wanted = _CRYPTOGRAPHYS if errors is None else errors
    try:
        yield
    except wanted as error:
        raise SecurityError(msg.format(error)) from error
