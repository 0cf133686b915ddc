"""Messages are decoded as kombu decodes them, whichever decoder is used."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kombu.utils import json as kombu_json

from pyworker.worker import trace, tracing

MODULES = [trace, tracing.chosen] if tracing.IS_COMPILED else [trace]

scalars = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**80), max_value=2**80)
    | st.floats()
    | st.text(st.characters(), max_size=30)
    | st.sampled_from(["__type__", "__value__", "12345678901234567890", "\\u005f_type__", "_type_", "\ud800"])
)
keys = st.text(max_size=5) | st.sampled_from(["__type__", "__value__", "a", ""])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=20
)


def shown(value: Any) -> str:
    """Tell apart what ``==`` does not: 1 and 1.0, 0.0 and -0.0, NaN."""
    return f"{type(value).__name__}:{value!r}"


def read_with(module: Any, data: bytes) -> Any:
    """Decode as the tracer does."""
    if module.is_plain_json(data):
        try:
            return orjson.loads(data)
        except ValueError:
            pass
    return kombu_json.loads(data)


def outcome_of(read: Any, data: bytes) -> str:
    try:
        return shown(read(data))
    except Exception as error:
        return f"{type(error).__name__}"


def assert_same(data: bytes) -> None:
    expected = outcome_of(kombu_json.loads, data)
    for module in MODULES:
        assert outcome_of(lambda each, module=module: read_with(module, each), data) == expected


@given(values, st.booleans())
@example({"__type__": "decimal", "__value__": "1"}, True)
@example([2**64 - 1, 2**64, -(2**63) - 1], True)
def test_decoded_values_are_kombus(value: Any, escapes: bool) -> None:
    text = json.dumps(value, ensure_ascii=escapes)
    assert_same(text.encode("utf-8", "surrogatepass"))


@given(st.binary(max_size=60) | st.text('[]{}",:0123456789.eE+-_type\\u005ftrufalsn ', max_size=60).map(str.encode))
def test_damaged_data_is_kombus_error(data: bytes) -> None:
    assert_same(data)


@pytest.mark.parametrize(
    "text",
    [
        r'{"\u005f_type__": "decimal", "__value__": "1"}',
        r'{"__\u0074ype__": "decimal", "__value__": "1"}',
        r'{"__t\u0079\u0070e__": "decimal", "__value__": "1"}',
        r'{"__typ\u0065__": "bytes", "__value__": "1"}',
        r'{"__type_\u005F": "bytes", "__value__": "1"}',
        '{"a": 1, "b": 2, "a": 3}',
        "-0",
        "-0.0",
        "1E400",
        "1e-400",
        "123456789012345678.5",
        "1234567890123456789",
        "9999999999999999999999",
        "-9223372036854775809",
        "NaN",
        "-Infinity",
        '"\\ud800"',
        '"\x01"',
        "\ufeff1",
        " [1 , 2]\n",
        "[1,]",
        "[" * 400 + "]" * 400,
        '{"__type__": "unknown", "__value__": 1}',
        '{"__type__": "bytes"}',
        "0123456789012345678901234567890",
        '"' + "x" * 17 + '1234567890123456789"',
    ],
)
def test_special_texts_are_read_as_kombu_reads_them(text: str) -> None:
    assert_same(text.encode("utf-8", "surrogatepass"))


@given(st.integers(min_value=0, max_value=40), st.integers(min_value=0, max_value=30), st.integers(0, 40))
def test_long_numbers_are_found_wherever_they_are(before: int, digits: int, after: int) -> None:
    data = b"x" * before + b"7" * digits + b"y" * after
    for module in MODULES:
        assert bool(module.has_long_number(data, len(data))) == (digits >= 19)


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_type_markers_are_found_wherever_they_are(before: bytes, after: bytes) -> None:
    for middle in (b"__type__", b"_type__", b"__type_", b"__tpye__"):
        data = before + middle + after
        for module in MODULES:
            assert bool(module.has_type_marker(data, len(data))) == (b"__type__" in data)


def test_texts_for_the_link_are_utf_8() -> None:
    for module in MODULES:
        assert module.sendable("plain") == "plain"
        assert module.sendable("é") == "é"
        assert module.sendable("\ud800x") == "?x"
