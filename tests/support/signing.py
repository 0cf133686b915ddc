"""Keys and certificates of those who sign messages in a test."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

PASSWORD = b"between us"


class Signers:
    """PEM files in a directory: ``NAME.key``, ``NAME.pem``, and ``known/NAME.pem`` for those who are trusted."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "known").mkdir(parents=True, exist_ok=True)

    @property
    def store(self) -> str:
        """What ``security_cert_store`` names."""
        return str(self.directory / "known")

    def key(self, name: str) -> str:
        """File of a private key."""
        return str(self.directory / f"{name}.key")

    def certificate(self, name: str) -> str:
        """File of a certificate."""
        return str(self.directory / f"{name}.pem")

    def add(
        self, name: str, *, password: bytes | None = None, is_known: bool = True, is_rsa: bool = True, days: int = 2
    ) -> None:
        """Make a key and its certificate, which ends ``days`` from now."""
        key = rsa.generate_private_key(65537, 2048) if is_rsa else ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"pyworker test {name}")])
        end = datetime.now(timezone.utc) + timedelta(days=days)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - timedelta(days=100))
            .not_valid_after(end)
            .sign(key, hashes.SHA256())
        )
        encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        Path(self.key(name)).write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        )
        text = certificate.public_bytes(serialization.Encoding.PEM)
        Path(self.certificate(name)).write_bytes(text)
        if is_known:
            (self.directory / "known" / f"{name}.pem").write_bytes(text)
