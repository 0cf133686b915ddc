"""Bounded reprs equal Celery's, character by character."""

from __future__ import annotations

from typing import Any

from celery.utils.saferepr import saferepr as celerys
from hypothesis import given, settings
from hypothesis import strategies as st

from pyworker.saferepr import repr_of_arguments, saferepr

LEAVES = st.one_of(
    st.integers(), st.floats(), st.text(max_size=30), st.binary(max_size=30), st.none(), st.booleans(), st.decimals(),
    st.dates(), st.just(set()), st.just(frozenset()), st.complex_numbers(), st.frozensets(st.integers(), max_size=3),
)  # fmt: skip
KEYS = st.one_of(st.text(max_size=10), st.integers(), st.tuples(st.integers()))
VALUES: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.tuples(inner), st.tuples(inner, inner), st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=25,
)


@settings(max_examples=300, deadline=None)
@given(value=VALUES, limit=st.one_of(st.none(), st.integers(0, 200), st.just(1024)), levels=st.integers(0, 5))
def test_any_value_is_shown_as_celery_shows_it(value: Any, limit: int | None, levels: int) -> None:
    assert saferepr(value, limit, levels) == celerys(value, limit, levels)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(LEAVES, st.text(max_size=900)), max_size=5).map(tuple))
def test_the_short_way_for_arguments_gives_the_same(args: tuple[Any, ...]) -> None:
    assert repr_of_arguments(args) == celerys(args, 1024)


def test_recursion_is_shown_not_followed() -> None:
    value: list[Any] = [1]
    value += [value, {"again": value}]
    assert saferepr(value, 200) == celerys(value, 200)


def test_a_failing_repr_is_described() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    assert saferepr([Broken()], 200).startswith("[<Unrepresentable <class ")
