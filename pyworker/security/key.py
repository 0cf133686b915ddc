"""Private keys that sign messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from pyworker.security.utils import padding_for, reraise_errors

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

__all__ = ["PrivateKey"]


class PrivateKey:
    """An RSA key.

    Args:
        key: the PEM text.
        password: its password, None if it has none.

    Raises:
        SecurityError: it cannot be read, the password is wrong, or it is no RSA key.
    """

    def __init__(self, key: str | bytes, password: str | bytes | None = None) -> None:
        # Not with the text of the error alone: a missing or needless password is a TypeError there.
        with reraise_errors("Invalid private key: {0!r}", (ValueError, TypeError)):
            found = load_pem_private_key(_bytes(key), None if password is None else _bytes(password))
            if not isinstance(found, RSAPrivateKey):
                raise ValueError("only RSA keys are supported")
        self._key = found

    def sign(self, data: str | bytes, digest: HashAlgorithm) -> bytes:
        """Return the signature of some data."""
        with reraise_errors("Unable to sign data: {0!r}"):
            return self._key.sign(_bytes(data), padding_for(digest), digest)


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
