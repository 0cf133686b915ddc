"""Signatures: what they show, how they combine, and that combining changes none of them."""

from __future__ import annotations

import copy
import json
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from pyworker import Signature, chain, chord, group, maybe_signature, signature

if TYPE_CHECKING:
    from conftest import Side


def test_reprs(ours: Side) -> None:
    add, mul = ours.add, ours.mul
    assert repr(add.s(2, 2)) == "proj.add(2, 2)"
    assert repr(add.s(2, 2, debug=True)) == "proj.add(2, 2, debug=True)"
    assert repr(add.s(4, 4) | mul.s(8) | mul.s(10)) == "proj.add(4, 4) | mul(8) | mul(10)"
    assert repr(add.s(2).clone(args=(4,), kwargs={"debug": True})) == "proj.add(4, 2, debug=True)"
    assert repr(add.starmap([(1, 2)])) == "[proj.add(*x) for x in [(1, 2)]]"


def test_parts(ours: Side) -> None:
    made = ours.add.signature((2, 2), {"debug": True}, countdown=10)
    assert (made.args, made.kwargs, made.options) == ((2, 2), {"debug": True}, {"countdown": 10})
    assert signature("proj.add", args=(1,), app=ours.app).type is ours.add


@pytest.mark.parametrize("how", ["plain", "json", "pickle", "copy", "deepcopy"])
def test_signatures_survive_being_carried(ours: Side, how: str) -> None:
    ours.app.set_current()
    made: Any = chord([ours.add.s(1, 2), ours.add.s(3) | ours.mul.s(4)], ours.log.s(x=1)).set(queue="q")
    carried = {
        "plain": lambda: dict(made),
        "json": lambda: json.loads(json.dumps(made)),
        "pickle": lambda: pickle.loads(pickle.dumps(made)),
        "copy": lambda: copy.copy(made),
        "deepcopy": lambda: copy.deepcopy(made),
    }[how]()
    again = maybe_signature(carried, app=ours.app)
    assert isinstance(again, chord)
    assert json.dumps(again, sort_keys=True) == json.dumps(made, sort_keys=True)


def test_joining_changes_no_operand(ours: Side) -> None:
    parts = [ours.add.s(1, 1), ours.mul.s(2), group(ours.add.s(1), ours.add.s(2)), ours.log.s()]
    before = json.dumps(parts)
    whole = parts[0] | parts[1] | parts[2] | parts[3]
    whole.freeze()
    whole.link_error(ours.log.s("failed"))
    assert json.dumps(parts) == before


def test_joining_by_celerys_rules(ours: Side) -> None:
    one, two, three = ours.add.s(1), ours.add.s(2), ours.add.s(3)
    both = group(one, two)
    assert isinstance(one | two, chain)
    assert len((one | two) | (three | one)) == 4
    assert isinstance(both | three, chord)
    assert isinstance(one | both, chain)
    upgraded = one | both | three
    assert isinstance(upgraded, chain)
    assert isinstance(upgraded.tasks[-1], chord)
    assert isinstance(chord([one], two) | three, chord)
    assert (one | group([two])).tasks[-1] == two
    assert isinstance(chain(both, three), chord)
    assert list(chain([one]).tasks) == [one]
    assert isinstance(chain(one), chain)
    assert list(chain(ours.add.s(i) for i in range(3)).tasks) == [ours.add.s(i) for i in range(3)]


def test_immutable_signatures_ignore_later_arguments(ours: Side) -> None:
    ours.add.si(1, 2).delay(9)
    ours.add.s(1).set(immutable=True).apply_async((9,), {"y": 1})
    assert [message["body"][:2] for message in ours.published()] == [[[1, 2], {}], [[1], {}]]


def test_links_of_groups_are_refused(ours: Side) -> None:
    with pytest.raises(TypeError, match="Cannot add link to group"):
        group(ours.add.s(1)).apply_async(link=ours.log.s())


def test_skew_spreads_a_group(ours: Side) -> None:
    whole = group(ours.add.s(i) for i in range(4)).skew(start=1, stop=3)
    assert [task.options["countdown"] for task in whole.tasks] == [1.0, 2.0, 3, 3]


def test_the_size_of_a_chain_grows_linearly(ours: Side) -> None:
    def size(length: int) -> int:
        chain([ours.add.s(1) for _ in range(length)]).apply_async((1,))
        return len(json.dumps(ours.published()[0]["body"]))

    assert size(200) < 2.2 * size(100)


def test_frozen_results_lead_back_to_the_first(ours: Side) -> None:
    result = (ours.add.s(1, 1) | ours.mul.s(2) | ours.add.s(3)).freeze()
    assert len(result.as_list()) == 3
    assert len(set(result.as_list())) == 3


def test_signatures_are_plain_dictionaries(ours: Side) -> None:
    assert isinstance(ours.add.s(1), dict)
    assert dict(ours.add.s(1)) == {
        "task": "proj.add", "args": (1,), "kwargs": {}, "options": {}, "subtask_type": None, "immutable": False
    }  # fmt: skip
    assert isinstance(Signature.from_dict(dict(ours.add.s(1))), Signature)
