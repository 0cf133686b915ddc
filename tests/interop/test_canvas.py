"""Celery's documented canvas examples (3-23, 32, 46-49) and workflows with errors, on a real worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from celery import chain, chord, chunks, group
from celery.exceptions import ChordError

from support.waiting import eventually

if TYPE_CHECKING:
    from support.stage import Stage

pytestmark = pytest.mark.control


def test_group_of_sums(stage: Stage) -> None:
    add = stage.tasks.add
    assert group(add.s(i, i) for i in range(10))().get(timeout=30) == list(range(0, 20, 2))
    assert group(add.s(2, 2), add.s(4, 4))().get(timeout=30) == [4, 8]
    pairs = [(2, 2), (4, 4), (8, 8), (16, 16)]
    assert group(add.s(i, j) for i, j in pairs).apply_async().get(timeout=30) == [4, 8, 16, 32]


def test_group_takes_a_partial_argument(stage: Stage) -> None:
    assert group(stage.tasks.add.s(i) for i in range(10))(10).get(timeout=30) == list(range(10, 20))


def test_group_result_knows_its_members_states(stage: Stage) -> None:
    add = stage.tasks.add
    result = group([add.s(2, 2), add.s(4, 4), add.s(8, 8), add.s(16, 16), add.s(32, 32)]).apply_async()
    assert result.get(timeout=30) == [4, 8, 16, 32, 64]
    assert result.ready()
    assert result.successful()
    assert not result.waiting()
    assert not result.failed()
    assert result.completed_count() == 5


def test_group_with_a_failing_member_raises_it(stage: Stage) -> None:
    result = group(stage.tasks.add.s(1, 1), stage.tasks.raising.s("in the group")).apply_async()
    with pytest.raises(ValueError, match="in the group"):
        result.get(timeout=30)
    assert eventually(result.failed)


def test_chain_forms_give_the_same(stage: Stage) -> None:
    add, mul = stage.tasks.add, stage.tasks.mul
    assert chain(add.s(4, 4) | mul.s(8))().get(timeout=30) == 64
    assert chain(add.s(4) | mul.s(8))(4).get(timeout=30) == 64
    assert (add.s(4, 4) | mul.s(8))().get(timeout=30) == 64
    assert chain(add.s(2, 2), add.s(4), add.s(8))().get(timeout=30) == 16
    assert (add.s(2, 2) | add.s(4) | add.s(8))().get(timeout=30) == 16
    assert (add.s(4) | mul.s(8))(16).get(timeout=30) == 160
    assert (add.s(4, 16) | mul.s(2) | (add.s(4) | mul.s(8)))().get(timeout=30) == 352


def test_chain_results_are_linked_by_parent(stage: Stage) -> None:
    add, mul = stage.tasks.add, stage.tasks.mul
    result = (add.si(2, 2) | add.si(4, 4) | add.si(8, 8))()
    assert result.get(timeout=30) == 16
    assert result.parent.get(timeout=30) == 8
    assert result.parent.parent.get(timeout=30) == 4
    result = chain(add.s(4, 4), mul.s(8), mul.s(10))()
    assert result.get(timeout=30) == 640
    assert (result.parent.get(timeout=30), result.parent.parent.get(timeout=30)) == (64, 8)


def test_chain_stops_at_the_first_error(stage: Stage) -> None:
    result = (stage.tasks.raising.si("broken chain") | stage.tasks.add.si(1, 1))()
    with pytest.raises(ValueError, match="broken chain"):
        result.parent.get(timeout=30)
    assert result.state in {"PENDING", "FAILURE"}
    assert stage.tasks.add.delay(1, 1).get(timeout=30) == 2
    with pytest.raises(ValueError, match="broken chain"):
        result.get(timeout=5)


def test_long_chain_reaches_its_end(stage: Stage) -> None:
    add = stage.tasks.add
    assert chain(add.s(0, 1), *(add.s(1) for _ in range(29)))().get(timeout=20) == 30


@pytest.mark.parametrize("form", ["call", "two steps", "pipe"])
def test_chord_sums_its_header(stage: Stage, form: str) -> None:
    add, xsum = stage.tasks.add, stage.tasks.xsum
    header = [add.s(i, i) for i in range(10)]
    if form == "call":
        result = chord((add.s(i, i) for i in range(10)), xsum.s())()
    elif form == "two steps":
        result = chord(header)(xsum.s())
    else:
        result = (group(header) | xsum.s())()
    assert result.get(timeout=20) == 90


def test_chord_of_a_hundred(stage: Stage) -> None:
    add, tsum = stage.tasks.add, stage.tasks.tsum
    assert chord(add.s(i, i) for i in range(100))(tsum.s()).get(timeout=30) == 9900


def test_chord_keeps_the_headers_order(stage: Stage) -> None:
    tasks = stage.tasks
    result = chord([tasks.identity.s(i) for i in range(20)])(tasks.identity.s())
    assert result.get(timeout=20) == list(range(20))


def test_chord_with_an_immutable_body(stage: Stage) -> None:
    add = stage.tasks.add
    assert chord([add.s(1, 1), add.s(2, 2)])(add.si(7, 7)).get(timeout=20) == 14


def test_empty_and_single_headers(stage: Stage) -> None:
    tasks = stage.tasks
    assert chord([tasks.add.s(3, 4)])(tasks.xsum.s()).get(timeout=20) == 7
    assert chord([])(tasks.xsum.s()).get(timeout=20) == 0


def test_chord_error_names_the_dependency_and_the_rest_runs(stage: Stage) -> None:
    tasks = stage.tasks
    raising = tasks.raising.s("in the header")
    raising.set(task_id=f"failing-{stage.kind.name}")
    result = chord([tasks.add.s(4, 4), raising, tasks.stamped.s("after the error")])(tasks.xsum.s())
    error = result.get(timeout=20, propagate=False)
    assert isinstance(error, ChordError)
    assert f"Dependency failing-{stage.kind.name} raised ValueError('in the header')" in str(error)
    assert result.state == "FAILURE"
    stage.wait_for_journal("after the error", 1)


def test_error_callback_of_the_body_runs_when_the_header_fails(stage: Stage) -> None:
    tasks = stage.tasks
    body = tasks.xsum.s().on_error(tasks.note_error.s())
    before = len(stage.journal("errors"))
    result = chord([tasks.add.s(1, 1), tasks.raising.s("for the body")])(body)
    result.get(timeout=20, propagate=False)
    entries = stage.wait_for_journal("errors", before + 1)
    assert "for the body" in entries[before]["exc"]


def test_chord_inside_a_chain(stage: Stage) -> None:
    tasks = stage.tasks
    flow = tasks.add.s(1, 1) | group(tasks.add.s(i) for i in range(3)) | tasks.xsum.s() | tasks.mul.s(10)
    assert flow().get(timeout=20) == (2 + 3 + 4) * 10


def test_nested_chords(stage: Stage) -> None:
    tasks = stage.tasks
    inner = chord([tasks.add.s(1, 1), tasks.add.s(2, 2)], tasks.xsum.s())
    assert chord([inner, tasks.add.s(10, 10)])(tasks.xsum.s()).get(timeout=20) == 26


def test_task_before_a_group_feeds_every_member(stage: Stage) -> None:
    add = stage.tasks.add
    assert (add.s(1, 1) | group(add.s(i) for i in range(3)))().get(timeout=20) == [2, 3, 4]
    result = (add.s(4, 4) | group(add.si(i, i) for i in range(10)))()
    assert result.get(timeout=20) == list(range(0, 20, 2))
    assert result.parent.get(timeout=30) == 8


def test_link_runs_after_success(stage: Stage) -> None:
    add, mul = stage.tasks.add, stage.tasks.mul
    result = add.apply_async((2, 2), link=mul.s(16))
    assert result.get(timeout=30) == 4
    child = eventually(lambda: result.children)[0]
    assert child.get(timeout=30) == 64
    assert list(result.collect()) == [(result, 4), (child, 64)]


def test_link_adds_to_the_parents_result(stage: Stage) -> None:
    add = stage.tasks.add
    for extra, total in ((16, 20), (8, 12)):
        result = add.apply_async((2, 2), link=add.s(extra))
        result.get(timeout=30)
        assert eventually(lambda: result.children)[0].get(timeout=30) == total  # noqa: B023


def test_several_links_all_run(stage: Stage) -> None:
    add = stage.tasks.add
    result = add.apply_async((2, 2), link=[add.s(1), add.s(10)])
    result.get(timeout=30)
    children = eventually(lambda: result.children)
    flat = [value for child in children for value in _values(child)]
    assert sorted(flat) == [5, 14]


def _values(child: object) -> list[int]:
    value = child.get(timeout=30)  # type: ignore[attr-defined]
    return value if isinstance(value, list) else [value]


def test_link_does_not_run_after_failure(stage: Stage) -> None:
    result = stage.tasks.raising.apply_async(link=stage.tasks.stamped.si("never linked"))
    result.get(timeout=30, propagate=False)
    assert stage.tasks.add.delay(1, 1).get(timeout=30) == 2
    assert stage.journal("never linked") == []
    assert not result.children


def test_link_error_gets_request_exception_and_traceback(stage: Stage) -> None:
    before = len(stage.journal("errors"))
    result = stage.tasks.raising.apply_async(("for the errback",), link_error=stage.tasks.note_error.s())
    result.get(timeout=30, propagate=False)
    entry = stage.wait_for_journal("errors", before + 1)[before]
    assert entry["id"] == result.id
    assert entry["exc"] == "ValueError('for the errback')"
    assert "ValueError: for the errback" in entry["traceback"]


def test_link_error_of_the_old_form_gets_the_id(stage: Stage) -> None:
    result = stage.tasks.raising.apply_async(link_error=stage.tasks.note_error_id.s())
    result.get(timeout=30, propagate=False)
    assert stage.wait_for_journal("error-ids", 1)[0]["id"] == result.id


def test_error_callback_of_a_chain_runs_for_a_later_step(stage: Stage) -> None:
    tasks = stage.tasks
    before = len(stage.journal("errors"))
    flow = (tasks.add.s(1, 1) | tasks.raising.si("second step")).on_error(tasks.note_error.s())
    flow().get(timeout=30, propagate=False)
    entries = stage.wait_for_journal("errors", before + 1)
    assert "second step" in entries[before]["exc"]


def test_map_and_starmap_run_in_one_message(stage: Stage) -> None:
    tasks = stage.tasks
    assert (~tasks.xsum.map([list(range(10)), list(range(100))])) == [45, 4950]
    assert (~tasks.add.starmap(zip(range(10), range(10)))) == list(range(0, 20, 2))
    assert tasks.add.starmap([(1, 1)]).apply_async(countdown=0.1).get(timeout=30) == [2]


def test_chunks_split_the_work(stage: Stage) -> None:
    add = stage.tasks.add
    numbers = list(range(0, 200, 2))
    expected = [numbers[i : i + 10] for i in range(0, 100, 10)]
    assert add.chunks(zip(range(100), range(100)), 10)().get(timeout=20) == expected
    assert isinstance(add.chunks([(1, 1)], 1), chunks)
    assert len(add.chunks(zip(range(1000), range(1000)), 10).group().tasks) == 100


def test_skewed_group_counts_down_by_steps(stage: Stage) -> None:
    tasks = stage.tasks
    skewed = group(tasks.stamped.s("skew", i) for i in range(3)).skew(start=0.2, stop=3, step=0.4)
    assert [round(task.options["countdown"], 1) for task in skewed.tasks] == [0.2, 0.6, 1.0]
    skewed.apply_async().get(timeout=15)
    assert [entry["label"] for entry in stage.journal("skew")] == [0, 1, 2]


def test_replace_gives_the_replacements_result(stage: Stage) -> None:
    tasks = stage.tasks
    assert tasks.replaced_by_sum.delay(3, 4).get(timeout=20) == 7
    assert tasks.replaced_by_group.delay([1, 2, 3]).get(timeout=20) == [2, 3, 4]
    assert tasks.replaced_by_chord.delay([1, 2, 3]).get(timeout=20) == 9


def test_replace_inside_a_chain_goes_on(stage: Stage) -> None:
    tasks = stage.tasks
    assert (tasks.replaced_by_sum.s(3, 4) | tasks.mul.s(2))().get(timeout=20) == 14


def test_immutable_and_partial_signatures(stage: Stage) -> None:
    add = stage.tasks.add
    assert (add.s(1, 1) | add.si(5, 5))().get(timeout=30) == 10
    assert add.signature((2,), {"y": 3}).delay().get(timeout=30) == 5


def test_children_of_a_task_that_starts_others(stage: Stage) -> None:
    result = stage.tasks.starts_others.delay(3)
    ids = result.get(timeout=30)
    assert [child.id for child in result.children] == ids
    assert [child.get(timeout=30) for child in result.children] == [0, 2, 4]


def test_task_may_wait_for_another_only_when_told(stage: Stage) -> None:
    assert stage.tasks.waits_for_other.delay(1, 2).get(timeout=15) == 3
    with pytest.raises(RuntimeError, match="Never call result.get"):
        stage.tasks.waits_as_forbidden.delay(1, 2).get(timeout=15)


def test_parent_and_root_ids_follow_the_chain(stage: Stage) -> None:
    tasks = stage.tasks
    result = (tasks.add.s(1, 1) | tasks.describe_request.si() | tasks.describe_request.si())()
    last = result.get(timeout=30)
    middle = result.parent.get(timeout=30)
    first_id = result.parent.parent.id
    assert (middle["parent_id"], middle["root_id"]) == (first_id, first_id)
    assert (last["parent_id"], last["root_id"]) == (result.parent.id, first_id)
