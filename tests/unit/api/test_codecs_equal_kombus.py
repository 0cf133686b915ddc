"""What our publish path and our result codec make of any value is what kombu's serializers make of it."""

from __future__ import annotations

import datetime
import json
from collections import OrderedDict, UserDict, defaultdict, namedtuple
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Any

import celery
import kombu.compression
import kombu.serialization
import kombu.utils.json
import orjson
import pytest
from celery.backends.redis import RedisBackend as StockRedisBackend
from hypothesis import example, given
from hypothesis import strategies as st
from kombu.exceptions import ContentDisallowed, EncodeError

import pyworker
from pyworker import compression
from pyworker._native import NativeError, is_plain_json
from pyworker.backends.meta import COMPRESSED, MetaCodec
from pyworker.exceptions import ImproperlyConfigured
from pyworker.publish.encoding import encode_body, encode_json, is_plain
from pyworker.worker.bodies import BodyDecoder

if TYPE_CHECKING:
    from collections.abc import Iterator

SERIALIZERS = ["json", "pickle", "yaml", "msgpack"]
METHODS = ["zlib", "gzip", "bzip2", "bzip", "lzma", "xz", "brotli", "zstd", "zstandard"]
ACCEPTED = ["json", "pickle", "yaml", "msgpack"]


class Color(Enum):
    RED = "red"


class Number(IntEnum):
    ONE = 1


class Text(str):
    pass


class Reduced:
    def __json__(self) -> Any:
        return {"reduced": [1]}


Pair = namedtuple("Pair", "first second")
SURROGATES = st.characters(categories=("Cs",))
TEXTS = (
    st.text()
    | st.text(st.characters() | SURROGATES)
    | st.sampled_from(["__type__", "__value__", "", "\x00", "\\u005f"])
)
PLAIN = (
    st.none() | st.booleans() | st.integers() | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False) | TEXTS | st.just(float("inf")) | st.just(-0.0)
)  # fmt: skip
TYPED = (
    st.datetimes(timezones=st.none() | st.timezones()) | st.dates() | st.times() | st.decimals(allow_nan=False)
    | st.uuids() | st.binary()
    | st.sampled_from([Number.ONE, Text("sub"), Pair(1, "b"), Reduced(), OrderedDict(a=1), defaultdict(list, a=[1])])
)  # fmt: skip
KEYS = TEXTS | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False)


def nested(leaves: Any, keys: Any) -> Any:
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=12,
    )


def outcome(function: Any, *arguments: Any) -> Any:
    """What a function returns, or the name of what it raises."""
    try:
        return "value", function(*arguments)
    except Exception as error:
        return "error", type(error).__name__


def same(ours: Any, theirs: Any) -> bool:
    """Equal with types: 1 is not True, 1 is not 1.0, 0.0 is not -0.0, the order of members counts."""
    return repr(ours) == repr(theirs) and type(ours) is type(theirs)


def moved() -> OrderedDict[str, int]:
    made = OrderedDict([("a", 1), ("b", 2)])
    made.move_to_end("a")
    return made


# -- publishing


@given(nested(PLAIN | TYPED, KEYS))
@example({"a": 1, 2: 3})
@example([2**64, -(2**63) - 1, 2**63, 1e400, "\ud800"])
@example({"__type__": "datetime", "__value__": "no date"})
@example(moved())
@example([{1, 2}])
@example([datetime.timedelta(seconds=1)])
@example([Color.RED])
@example(UserDict(a=1))
@example({"\ud800": 1})
@example([[[[[[[[[[1]]]]]]]]]])
def test_published_json_decodes_to_what_kombus_does(value: Any) -> None:
    ours, theirs = outcome(encode_json, value), outcome(kombu.serialization.dumps, value, "json")
    assert ours[0] == theirs[0], (ours, theirs)
    if ours[0] == "error":
        assert ours == theirs
        return
    read = kombu.serialization.loads
    text, expected = ours[1], theirs[1][2]
    decoded = outcome(read, text, "application/json", "utf-8"), outcome(read, expected, "application/json", "utf-8")
    assert same(*decoded), (text, expected)
    if not is_plain(value):
        assert text == expected.encode()


@given(nested(PLAIN, TEXTS))
@example({"b": 1, "a": {"d": 2, "c": 3}})
@example(1e-05)
def test_the_fast_encoder_changes_nothing_that_a_reader_could_tell(value: Any) -> None:
    """Beyond blanks and the spelling of numbers and of letters that are not ASCII it is the same text."""
    if not is_plain(value):
        return
    try:
        fast = orjson.dumps(value)
    except TypeError:
        return
    slow = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # Numbers of which one of them writes an exponent.
    assert fast.decode() == slow or "e" in fast.decode() + slow
    assert same(json.loads(fast), json.loads(json.dumps(value)))


@pytest.mark.parametrize("serializer", SERIALIZERS)
@given(value=nested(st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(), st.text()))
def test_bodies_of_every_serializer_are_kombus(serializer: str, value: Any) -> None:
    ours = encode_body(value, serializer)
    content_type, encoding, data = kombu.serialization.dumps(value, serializer)
    raw = data.encode() if isinstance(data, str) else data
    assert (ours.content_type, ours.content_encoding) == (content_type, encoding)
    if serializer != "json":
        assert ours.data == raw
    decode = BodyDecoder(ACCEPTED)
    assert same(decode(ours.data, {}, content_type, encoding), decode(raw, {}, content_type, encoding))


# -- reading

NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
STRINGS = st.text().map(json.dumps) | st.sampled_from(
    ['"__type__"', '"\\u005f_type__"', '"\\ud800"', '"\\ud83d\\ude00"', '"\\u0000"', '"1234567890123456789"', '"\\/"']
)
ATOMS = NUMBERS | STRINGS | st.sampled_from(["null", "true", "false", "NaN", "Infinity", "-Infinity", "-0", "01", ""])
TEXT_OF_JSON = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda members: f"[{', '.join(members)}]")
        | st.lists(st.tuples(STRINGS, inner), max_size=4).map(
            lambda members: "{" + ",".join(f"{key}: {value}" for key, value in members) + "}"
        )
    ),
    max_leaves=8,
)


@given(TEXT_OF_JSON)
@example('{"a": 1, "b": 2, "a": 3}')
@example('{"__type__": "datetime", "__value__": "2026-01-01T00:00:00"}')
@example('{"\\u005f\\u005ftype__": "bytes", "__value__": "x"}')
@example('{"__type__": "unknown", "__value__": 1}')
@example("18446744073709551616")
@example("-9223372036854775809")
@example("1e400")
@example("[1, 2")
def test_plain_json_is_read_as_kombu_reads_it(text: str) -> None:
    raw = text.encode("utf-8", "surrogatepass")
    expected = outcome(kombu.utils.json.loads, raw)
    if is_plain_json(raw):
        fast = outcome(orjson.loads, raw)
        # What it refuses is read by kombu's; what it reads is the same.
        assert fast[0] == "error" or same(fast, expected), text
    codec = MetaCodec("json", None, ["json"])
    ours = outcome(codec.decode, raw)
    if expected[0] == "error" and raw:
        assert ours[0] == "error"
    elif raw:
        assert same(ours, expected), text


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_as_kombu_does(raw: bytes) -> None:
    ours = outcome(MetaCodec("json", None, ["json"]).decode, raw)
    theirs = outcome(kombu.serialization.loads, raw, "application/json", "utf-8", {"application/json"})
    assert same(ours, theirs) or raw.startswith(COMPRESSED)


# -- results


def stock_backend(serializer: str, method: str | None) -> StockRedisBackend:
    app = celery.Celery("stock", set_as_current=False)
    app.conf.update(result_serializer=serializer, result_compression=method, accept_content=ACCEPTED)
    # Never connected to.
    return StockRedisBackend(url="redis://127.0.0.1:1", app=app)


@pytest.mark.parametrize("method", [None, *METHODS])
@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_results_are_celerys_in_both_directions(serializer: str, method: str | None) -> None:
    value = {"status": "SUCCESS", "result": [1, "täxt", {"a": None, "big": 2**63}], "task_id": "i" * 300}
    ours, stock = MetaCodec(serializer, method, ACCEPTED), stock_backend(serializer, method)
    written, theirs = ours.encode(value), stock.encode(value)
    theirs = theirs.encode() if isinstance(theirs, str) else theirs
    assert ours.decode(theirs) == value
    assert stock.decode(written) == value
    if method is None:
        assert written == theirs


@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_results_of_a_kind_that_is_not_accepted_are_refused(serializer: str) -> None:
    others = [name for name in SERIALIZERS if name != serializer]
    codec = MetaCodec(serializer, "zlib", others)
    plain = MetaCodec(serializer, None, ACCEPTED).encode({"status": "SUCCESS"})
    for payload in (plain, COMPRESSED + b"application/x-gzip\x00damaged", codec.encode({"status": "SUCCESS"})):
        with pytest.raises(ContentDisallowed, match="Refusing to deserialize untrusted content"):
            codec.decode(payload)


def test_result_accept_content_counts_before_accept_content() -> None:
    made = pyworker.Celery("accepts", set_as_current=False)
    made.conf.accept_content = ["json"]
    MetaCodec.of(made.conf).decode(b'{"a": 1}')
    for accept in (["pickle"], []):
        made.conf.result_accept_content = accept
        with pytest.raises(ContentDisallowed):
            MetaCodec.of(made.conf).decode(b'{"a": 1}')


# -- what applications register


@pytest.fixture
def other_json() -> Iterator[None]:
    """An application's own serializer in the place of kombu's JSON."""

    def write(value: Any) -> str:
        return f"own:{json.dumps(value)}"

    def read(text: Any) -> Any:
        return ["own", json.loads(bytes(text)[4:])]

    kombu.serialization.register("json", write, read, "application/json", "utf-8")
    yield
    kombu.serialization.register_json()
    kombu.serialization.registry.enable("json")


@pytest.mark.usefixtures("other_json")
def test_an_application_may_replace_json() -> None:
    body = encode_body([[1], {}, None], None)
    assert body.data == b"own:[[1], {}, null]"
    decode = BodyDecoder(["json"])
    assert not decode.reads_plain_json
    assert decode(body.data, {}, body.content_type, body.content_encoding) == ["own", [[1], {}, None]]
    codec = MetaCodec("json", None, ["json"])
    assert codec.encode([1]) == b"own:[1]"
    assert codec.decode(b"own:[1]") == ["own", [1]]
    # Headers are kombu's own JSON whatever an application registered.
    assert encode_json({"id": "x"}) == b'{"id":"x"}'


def test_an_application_may_replace_a_compression_or_add_one() -> None:
    def pack(data: bytes) -> bytes:
        return b"packed:" + data

    def unpack(data: bytes) -> bytes:
        return data[7:]

    known = kombu.compression._encoders["application/x-gzip"], kombu.compression._decoders["application/x-gzip"]
    kombu.compression.register(pack, unpack, "application/x-gzip", ["gzip", "zlib"])
    kombu.compression.register(pack, unpack, "application/x-own", ["own"])
    try:
        for method, content_type in (("own", "application/x-own"), ("zlib", "application/x-gzip")):
            assert compression.compress(b"data", method) == (b"packed:data", content_type)
            assert compression.decompress(b"packed:data", content_type) == b"data"
    finally:
        kombu.compression.register(*known, "application/x-gzip", ["gzip", "zlib"])
        del kombu.compression._encoders["application/x-own"], kombu.compression._decoders["application/x-own"]
        del kombu.compression._aliases["own"]


# -- compression


@pytest.mark.parametrize("method", METHODS)
@given(data=st.binary(max_size=2000) | st.binary(max_size=20).map(lambda data: data * 500))
def test_compression_is_kombus_in_both_directions(method: str, data: bytes) -> None:
    packed, content_type = compression.compress(data, method)
    theirs, their_type = kombu.compression.compress(data, method)
    assert content_type == their_type
    assert kombu.compression.decompress(packed, content_type) == data
    assert compression.decompress(theirs, content_type) == data


@pytest.mark.parametrize("method", METHODS)
def test_a_bomb_is_refused(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "MAX_BYTES", 1 << 20)
    bomb, content_type = compression.compress(bytes((1 << 20) + 1), method)
    with pytest.raises(NativeError) as raised:
        compression.decompress(bomb, content_type)
    assert raised.value.kind == "too_large"
    with pytest.raises(NativeError):
        BodyDecoder(["json"])(bomb, {"compression": content_type}, "application/json", "utf-8")
    with pytest.raises(ContentDisallowed):
        BodyDecoder(["json"])(bomb, {"compression": content_type}, "application/x-yaml", "utf-8")
    with pytest.raises(NativeError):
        MetaCodec("json", None, ["json"]).decode(COMPRESSED + content_type.encode() + b"\x00" + bomb)


def test_unknown_methods_are_named() -> None:
    with pytest.raises(ImproperlyConfigured, match="rot13"):
        compression.compress(b"", "rot13")
    with pytest.raises(KeyError, match="rot13"):
        compression.decompress(b"", "rot13")


def test_what_cannot_be_encoded_is_kombus_error() -> None:
    for value in ({1}, object(), [datetime.timedelta(1)], {(1, 2): 3}):
        with pytest.raises(EncodeError):
            encode_json(value)
        with pytest.raises(EncodeError):
            kombu.serialization.dumps(value, "json")
