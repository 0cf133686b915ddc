"""The serializer ``auth``: Celery's format in both directions, and what is refused."""

from __future__ import annotations

import base64
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import celery.security.certificate
import celery.security.key
import celery.security.serialization
import pytest
from celery.exceptions import SecurityError as StockSecurityError
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.serialization import dumps, loads

import pyworker
import pyworker.security
import pyworker.security.serialization
from pyworker.exceptions import ImproperlyConfigured, SecurityError
from support.signing import PASSWORD, Signers

if TYPE_CHECKING:
    from collections.abc import Callable

VALUES = [None, 1, "täxt \x00\x01 \U0001f40d", [[1, 2], {"a": [None, True]}, {"chord": None}], {"\x00\x01": "\x00\x01"}]
SERIALIZERS = ["json", "pickle", "yaml", "msgpack"]
MODULES = {"ours": pyworker.security, "stock": celery.security}


@lru_cache(maxsize=64)
def signing(whose: str, signers: Signers, name: str, *, digest: str = "sha256", serializer: str = "json") -> Any:
    """A serializer of either library that signs as ``name`` and knows the known."""
    module = MODULES[whose]
    password = PASSWORD if name == "second" else None
    return module.serialization.SecureSerializer(
        module.key.PrivateKey(Path(signers.key(name)).read_text(), password),
        module.certificate.Certificate(Path(signers.certificate(name)).read_text()),
        module.certificate.FSCertStore(signers.store),
        digest,
        serializer,
    )


@pytest.mark.parametrize("digest", ["sha256", "sha512", "sha3_256"])
@pytest.mark.parametrize("serializer", SERIALIZERS)
@pytest.mark.parametrize(("sender", "receiver"), [("ours", "stock"), ("stock", "ours"), ("ours", "ours")])
def test_what_one_signs_the_other_reads(
    signers: Signers, sender: str, receiver: str, serializer: str, digest: str
) -> None:
    for name in ("first", "second"):
        signed = signing(sender, signers, name, digest=digest, serializer=serializer).serialize(VALUES)
        assert type(signed) is str
        reader = signing(receiver, signers, "first", digest=digest, serializer=serializer)
        assert reader.deserialize(signed) == VALUES
        assert reader.deserialize(signed.encode()) == VALUES


@settings(max_examples=25)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=5))
def test_any_value_survives(signers: Signers, value: Any) -> None:
    ours, stock = (signing(whose, signers, "first") for whose in ("ours", "stock"))
    assert stock.deserialize(ours.serialize(value)) == value == ours.deserialize(stock.serialize(value))


def parts_of(signed: str) -> list[bytes]:
    return base64.b64decode(signed).split(b"\x00\x01", 4)


def joined(parts: list[bytes]) -> str:
    return base64.b64encode(b"\x00\x01".join(parts)).decode()


def changed(index: int, make: Callable[[bytes], bytes]) -> Callable[[str], str]:
    """One part of a signed body changed."""

    def change(signed: str) -> str:
        parts = parts_of(signed)
        parts[index] = make(parts[index])
        return joined(parts)

    return change


TAMPERING: dict[str, Callable[[str], str]] = {
    "body": changed(4, lambda body: body.replace(b"1", b"2")),
    "body cut": changed(4, lambda body: body[:-1]),
    "body empty": changed(4, lambda _: b""),
    "signature": changed(1, lambda text: base64.b64encode(b"\x00" + base64.b64decode(text)[1:])),
    "signature empty": changed(1, lambda _: b""),
    "signature of nothing": changed(1, lambda _: b"!!"),
    "signer": changed(0, lambda _: base64.b64encode(b"pyworker test first 1")),
    "signer no text": changed(0, lambda _: base64.b64encode(b"\xff\xfe")),
    "no signature at all": lambda _: base64.b64encode(b'[[], {}, {"chord": null}]').decode(),
    "plain json": lambda _: '[[], {}, {"chord": null}]',
    "not base64": lambda signed: signed[:-1],
    "too few parts": lambda signed: joined(parts_of(signed)[:3]),
    "nothing": lambda _: "AA==",
}


@pytest.mark.parametrize("how", list(TAMPERING))
@pytest.mark.parametrize("whose", ["ours", "stock"])
def test_what_was_tampered_with_is_refused(signers: Signers, whose: str, how: str) -> None:
    """By Celery's as by ours: the control shows that these are real differences."""
    forged = TAMPERING[how](signing("stock", signers, "first").serialize([1, 1]))
    refusal = {"ours": SecurityError, "stock": StockSecurityError}[whose]
    with pytest.raises(refusal, match="Unable to deserialize"):
        signing(whose, signers, "first").deserialize(forged)


@pytest.mark.parametrize("whose", ["ours", "stock"])
def test_strangers_and_other_digests_are_refused(signers: Signers, whose: str) -> None:
    refusal = {"ours": SecurityError, "stock": StockSecurityError}[whose]
    reader = signing(whose, signers, "first")
    for sender in ("ours", "stock"):
        with pytest.raises(refusal, match="Unknown certificate"):
            reader.deserialize(signing(sender, signers, "stranger").serialize(1))
        with pytest.raises(refusal, match="Bad signature" if whose == "ours" else "Unable to deserialize"):
            reader.deserialize(signing(sender, signers, "first", digest="sha512").serialize(1))


def test_a_certificate_whose_time_is_over_is_refused(signers: Signers, tmp_path: Path) -> None:
    text = Path(signers.certificate("expired")).read_text()
    (tmp_path / "expired.pem").write_text(text)
    with pytest.raises(SecurityError, match=r"expired\.pem.*Expired certificate"):
        pyworker.security.certificate.FSCertStore(str(tmp_path))
    reader = signing.__wrapped__("ours", signers, "first")
    reader._cert_store.add_cert(pyworker.security.certificate.Certificate(text))
    with pytest.raises(SecurityError, match="Expired certificate"):
        reader.deserialize(signing("ours", signers, "expired").serialize(1))


def test_a_signed_pickle_is_refused_unless_it_is_wanted(signers: Signers) -> None:
    """The signature does not cover the content type, so that it must not decide."""
    signed = signing("stock", signers, "first", serializer="pickle").serialize({1})
    with pytest.raises(SecurityError, match="signed pickle"):
        signing("ours", signers, "first").deserialize(signed)
    relabelled = changed(2, lambda _: b"application/x-python-serialize")
    with pytest.raises(SecurityError, match="signed pickle"):
        signing("ours", signers, "first").deserialize(relabelled(signing("ours", signers, "first").serialize(1)))
    wanted = pyworker.security.serialization.SecureSerializer(
        cert_store=pyworker.security.certificate.FSCertStore(signers.store), allowed=["pickle"]
    )
    assert wanted.deserialize(signed) == {1}


@pytest.mark.parametrize(
    ("name", "password", "text"),
    [("second", None, "private key"), ("second", b"wrong", "private key"), ("elliptic", None, "only RSA"),
     ("first", b"needless", "private key")],
)  # fmt: skip
def test_keys_that_cannot_be_used_are_refused(signers: Signers, name: str, password: bytes | None, text: str) -> None:
    with pytest.raises(SecurityError, match=text):
        pyworker.security.key.PrivateKey(Path(signers.key(name)).read_text(), password)


def test_certificates_that_cannot_be_used_are_refused(signers: Signers, tmp_path: Path) -> None:
    with pytest.raises(SecurityError, match="only certificates of RSA keys"):
        pyworker.security.certificate.Certificate(Path(signers.certificate("elliptic")).read_text())
    (tmp_path / "a.pem").write_text("no certificate")
    with pytest.raises(SecurityError, match=r"a\.pem"):
        pyworker.security.certificate.FSCertStore(str(tmp_path))
    for name in ("a", "b"):
        (tmp_path / f"{name}.pem").write_text(Path(signers.certificate("first")).read_text())
    with pytest.raises(SecurityError, match=r"b\.pem: Duplicate certificate"):
        pyworker.security.certificate.FSCertStore(str(tmp_path / "*.pem"))


def app_of(signers: Signers, **settings: Any) -> pyworker.Celery:
    given = {
        "task_serializer": "auth",
        "accept_content": ["auth"],
        "security_key": signers.key("second"),
        "security_key_password": PASSWORD,
        "security_certificate": signers.certificate("second"),
        "security_cert_store": signers.store,
    }
    return pyworker.Celery("signed", set_as_current=False, changes={**given, **settings})


def test_an_app_signs_and_verifies(signers: Signers) -> None:
    app_of(signers, security_digest="sha512").setup_security()
    content_type, encoding, body = dumps([1], serializer="auth")
    assert (content_type, encoding) == ("application/data", "utf-8")
    assert dumps([1])[0] == "application/data"
    assert loads(body, content_type, encoding, accept={"application/data"}) == [1]
    assert signing("stock", signers, "first", digest="sha512").deserialize(body) == [1]


def test_arguments_count_before_settings(signers: Signers) -> None:
    app = app_of(signers, security_key="/nowhere", security_digest="md5")
    app.conf.security_key_password = None
    app.setup_security(key=signers.key("first"), cert=signers.certificate("first"), digest="sha384", serializer="yaml")
    body = dumps({"a": 1}, serializer="auth")[2]
    assert parts_of(body)[2] == b"application/x-yaml"
    assert signing("stock", signers, "second", digest="sha384").deserialize(body) == {"a": 1}


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"task_serializer": "json"}, "task_serializer"),
        ({"accept_content": ["auth", "json"]}, "accept_content"),
        ({"security_key": None, "security_cert_store": None}, "security_key, security_cert_store"),
        ({"security_certificate": "/nowhere/at.all"}, r"security_certificate: .*/nowhere/at\.all"),
        ({"security_digest": "sha1024"}, "security_digest: 'sha1024'"),
        ({"security_digest": "HashAlgorithm"}, "security_digest"),
    ],
)
def test_what_is_missing_is_named(signers: Signers, settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=text):
        app_of(signers, **settings).setup_security()
