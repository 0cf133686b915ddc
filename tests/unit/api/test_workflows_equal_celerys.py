"""Workflows publish what Celery's do, header by header, and their results name the same tasks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import celery.canvas
import pytest

from pyworker.canvas.stamping import StampingVisitor, merged_stamps
from support.comparing import comparable, normal

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Side

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::PendingDeprecationWarning",
    # Sockets of the stock application.
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


class Parts:
    """Signatures of one side's tasks, new ones each time, and what combines them."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.app, self.add, self.mul, self.log = side.app, side.add, side.mul, side.log
        self.group, self.chain, self.chord = side.library.group, side.library.chain, side.library.chord

    @property
    def one(self) -> Any:
        return self.add.s(1, 1)

    @property
    def two(self) -> Any:
        return self.add.s(2, 2)

    @property
    def end(self) -> Any:
        return self.log.s()


def sent_after(change: Callable[[Any], Any], sig: Any) -> Any:
    """Change a signature, then send it."""
    change(sig)
    return sig.apply_async()


def carried(side: Side, sig: Any) -> Any:
    """A signature that was serialized and brought back."""
    return side.app.signature(json.loads(json.dumps(sig)))


CASES: dict[str, Callable[[Parts], Any]] = {
    "chord": lambda p: p.chord([p.one, p.two])(p.end),
    "chord2": lambda p: p.chord([p.one, p.two], p.end)(),
    "chord opts": lambda p: p.chord([p.one, p.two], p.end).apply_async(queue="q", countdown=3, priority=2),
    "chord set": lambda p: p.chord([p.one, p.two], p.end, queue="qq").apply_async(),
    "chord of one": lambda p: p.chord([p.one], p.end).apply_async(),
    "chord args": lambda p: p.chord([p.add.s(1), p.add.s(2)], p.end).apply_async((5,)),
    "chord kw": lambda p: p.chord([p.add.s(1), p.add.s(2)], p.end).apply_async(kwargs={"y": 4}),
    "chord empty": lambda p: p.chord([], p.end).apply_async(),
    "group|task": lambda p: (p.group(p.one, p.two) | p.end).delay(),
    "group|task|task": lambda p: (p.group(p.one, p.two) | p.end | p.add.s(1)).delay(),
    "group|group": lambda p: (p.group(p.one, p.two) | p.group(p.end, p.log.s(1))).delay(),
    "group|group|task": lambda p: (p.group(p.one, p.two) | p.group(p.end, p.log.s(1)) | p.log.s(2)).delay(),
    "task|group|task": lambda p: (p.one | p.group(p.add.s(1), p.add.s(2)) | p.end).delay(),
    "task|group|group": lambda p: (p.one | p.group(p.add.s(1), p.add.s(2)) | p.group(p.end, p.end)).delay(),
    "task|group|group|task": lambda p: (
        p.one | p.group(p.add.s(1), p.add.s(2)) | p.group(p.end, p.end) | p.log.s(9)
    ).delay(),
    "task|group|task|task": lambda p: (p.one | p.group(p.add.s(1), p.add.s(2)) | p.end | p.mul.s(2)).delay(),
    "chord chain header": lambda p: p.chord([p.one | p.mul.s(2), p.two | p.mul.s(3)], p.end).apply_async(),
    "chord in chord header": lambda p: p.chord([p.chord([p.one, p.two], p.end), p.add.s(3, 3)], p.end).apply_async(),
    "chord in chord body": lambda p: p.chord(
        [p.one, p.two], p.chord([p.log.s(1), p.log.s(2)], p.log.s(3))
    ).apply_async(),
    "chord body chain": lambda p: p.chord([p.one, p.two], p.log.s(1) | p.add.s(2)).apply_async(),
    "chord body group": lambda p: p.chord([p.one, p.two], p.group(p.log.s(1), p.add.s(2))).apply_async(),
    "chord link": lambda p: p.chord([p.one, p.two], p.log.s(1)).apply_async(link=p.add.s(9)),
    "chord link_error": lambda p: p.chord([p.one, p.two], p.log.s(1)).apply_async(link_error=p.log.s(9)),
    "chord on_error": lambda p: p.chord([p.one, p.two], p.log.s(1)).on_error(p.log.s("e")).apply_async(),
    "chord body on_error": lambda p: p.chord([p.one, p.two], p.log.s(1).on_error(p.log.s("e"))).apply_async(),
    "chain with chord mid": lambda p: p.chain(
        p.one, p.chord([p.add.s(1), p.add.s(2)], p.end), p.mul.s(2)
    ).apply_async(),
    "chain chord first": lambda p: p.chain(p.chord([p.one, p.two], p.end), p.mul.s(2), p.mul.s(3)).apply_async(),
    "group of chains": lambda p: p.group(p.one | p.mul.s(2), p.two | p.mul.s(3)).apply_async(),
    "group of groups": lambda p: p.group(p.group(p.one, p.two), p.group(p.add.s(3, 3))).apply_async(),
    "group of chords": lambda p: p.group(p.chord([p.one, p.two], p.end), p.add.s(1, 2)).apply_async(),
    "group link": lambda p: sent_after(lambda sig: sig.link(p.end), p.group(p.one, p.two)),
    "group link_error": lambda p: sent_after(lambda sig: sig.link_error(p.end), p.group(p.one, p.two)),
    "group skew": lambda p: p.group(p.one, p.two).skew(start=1, stop=10).apply_async(),
    "group set": lambda p: p.group(p.one, p.two).set(queue="a", priority=2).apply_async(),
    "group kwargs": lambda p: p.group(p.add.s(1), p.add.s(2)).apply_async(kwargs={"y": 3}),
    "group delay": lambda p: p.group(p.add.s(1), p.add.s(2)).delay(7),
    "group countdown": lambda p: p.group(p.one, p.two).apply_async(countdown=4),
    "group generator": lambda p: p.group(p.add.s(i, i) for i in range(3)).apply_async(),
    "group of one": lambda p: p.group(p.one).apply_async(),
    "group group one": lambda p: p.group(p.group(p.one)).apply_async(),
    "task|group one": lambda p: (p.one | p.group(p.add.s(1))).apply_async(),
    "group one|task": lambda p: (p.group(p.one) | p.add.s(1)).apply_async(),
    "chain opts": lambda p: p.chain(p.one, p.mul.s(2)).apply_async(queue="x", priority=5, expires=10),
    "chain countdown": lambda p: p.chain(p.one, p.mul.s(2)).apply_async(countdown=10),
    "chain set": lambda p: p.chain(p.one, p.mul.s(2)).set(queue="x").apply_async(),
    "chain kwargs": lambda p: p.chain(p.add.s(1), p.mul.s(2)).delay(y=3),
    "chain id": lambda p: p.chain(p.one, p.mul.s(2)).apply_async(task_id="the-id"),
    "chain link err": lambda p: p.chain(p.one, p.mul.s(2)).apply_async(link_error=[p.log.s(1), p.log.s(2)]),
    "chain link method": lambda p: sent_after(lambda sig: sig.link(p.end), p.chain(p.one, p.mul.s(2))),
    "chain of chords": lambda p: (
        p.chord([p.one, p.two], p.end) | p.chord([p.add.s(1), p.add.s(2)], p.end)
    ).apply_async(),
    "chain of chains args": lambda p: p.chain(p.chain(p.add.s(1), p.mul.s(2)), p.add.s(3)).apply_async((2,)),
    "chain immut": lambda p: p.chain(p.add.si(1, 1), p.mul.si(2, 2)).apply_async(),
    "chain in group|task": lambda p: (p.group(p.one | p.add.s(2), p.add.s(1, 2)) | p.end).apply_async(),
    "map|": lambda p: (p.add.map([1, 2]) | p.end).apply_async(),
    "chunks apply": lambda p: p.add.chunks(zip(range(4), range(4)), 2).apply_async(),
    "chunks group": lambda p: p.add.chunks(zip(range(4), range(4)), 2).group().apply_async(),
    "chunks group skew": lambda p: p.add.chunks(zip(range(4), range(4)), 2).group().skew(start=2).apply_async(),
    "chunks queue": lambda p: p.add.chunks(zip(range(4), range(4)), 2).apply_async(queue="ch"),
    "stamp": lambda p: sent_after(lambda sig: sig.stamp(who="me"), p.one),
    "stamp chain": lambda p: sent_after(lambda sig: sig.stamp(who="me"), p.one | p.mul.s(2)),
    "stamp group": lambda p: sent_after(lambda sig: sig.stamp(who="me"), p.group(p.one, p.mul.s(2, 2))),
    "stamp chord": lambda p: sent_after(lambda sig: sig.stamp(who="me"), p.chord([p.one, p.mul.s(2, 2)], p.end)),
    "stamp link": lambda p: sent_after(lambda sig: sig.stamp(who="me"), p.one.set(link=p.end)),
    "link group": lambda p: p.add.apply_async((1, 1), link=p.group(p.end, p.log.s(1))),
    "link chain": lambda p: p.add.apply_async((1, 1), link=p.end | p.log.s(1)),
    "link chord": lambda p: p.add.apply_async((1, 1), link=p.chord([p.add.s(2), p.add.s(3)], p.end)),
    "sig kw override": lambda p: p.add.signature((2, 2), countdown=10).apply_async(countdown=1),
    "sig send by name": lambda p: p.app.signature("proj.unk", args=(1,), kwargs={"a": 1}).apply_async(),
    "sig by name in chain": lambda p: (
        p.app.signature("proj.unk", args=(1,)) | p.app.signature("proj.unk2")
    ).apply_async(),
    "sig by name in group": lambda p: p.group(
        [p.app.signature("proj.unk", args=(1,)), p.app.signature("proj.unk2")], app=p.app
    ).apply_async(),
    "sig by name in chord": lambda p: p.chord(
        [p.app.signature("proj.unk", args=(1,)), p.app.signature("proj.unk2")],
        p.app.signature("proj.unk3"),
        app=p.app,
    ).apply_async(),
    "from_dict chord": lambda p: carried(p.side, p.chord([p.one, p.two], p.end)).apply_async(),
    "from_dict chain": lambda p: carried(p.side, p.chain(p.one, p.add.s(2), p.end)).apply_async(),
    "from_dict group": lambda p: carried(p.side, p.group(p.one, p.add.s(2))).apply_async(),
    "frozen group": lambda p: sent_after(lambda sig: sig.freeze(), p.group(p.one, p.two)),
    "frozen chain": lambda p: sent_after(lambda sig: sig.freeze(), p.one | p.add.s(2)),
    "frozen chord": lambda p: sent_after(lambda sig: sig.freeze(), p.chord([p.one, p.two], p.end)),
    "group in chain in group": lambda p: p.group(p.one | p.group(p.add.s(1), p.add.s(2)), p.add.s(5, 5)).apply_async(),
    "group in chain in chord": lambda p: p.chord(
        [p.one | p.group(p.add.s(1), p.add.s(2)), p.add.s(5, 5)], p.end
    ).apply_async(),
    "chord ending chain in chord": lambda p: p.chord(
        [p.one | p.group(p.add.s(1), p.add.s(2)) | p.end, p.add.s(5, 5)], p.end
    ).apply_async(),
    "chain(empty)": lambda p: p.chain()(),
    "chord immut body": lambda p: p.chord([p.one, p.two], p.log.si()).apply_async(),
    "chord task_id": lambda p: p.chord([p.one, p.two], p.log.si()).apply_async(task_id="abc"),
    "nested 3": lambda p: p.chain(
        p.one,
        p.group(p.add.s(1) | p.group(p.add.s(1), p.add.s(2)) | p.end, p.add.s(4)),
        p.end,
        p.group(p.log.s(1), p.log.s(2)),
        p.log.s("end"),
    ).apply_async(),
}


@pytest.mark.parametrize("name", CASES)
def test_a_workflow_publishes_what_celerys_does(name: str, ours: Side, stock: Side) -> None:
    seen = []
    for side in (stock, ours):
        side.app.finalize()
        result = CASES[name](Parts(side))
        ids: dict[str, str] = {}
        shape = comparable(json.loads(json.dumps(result.as_tuple())), ids) if result is not None else None
        seen.append((repr(normal(side.published())), shape))
    assert seen[1] == seen[0]


def test_a_nested_groups_tasks_keep_their_order(ours: Side) -> None:
    """Celery turns those of a group in a header round, so that the body gets their results the wrong way round."""
    header = [ours.library.group(ours.add.s(1, 1), ours.add.s(2, 2)), ours.add.s(3, 3)]
    ours.library.chord(header, ours.log.s()).apply_async()
    published = ours.published()
    assert [message["body"][0] for message in published] == [[1, 1], [2, 2], [3, 3]]
    assert [message["headers"]["group_index"] for message in published] == [0, 1, 2]


def test_arguments_of_a_cloned_chain_reach_its_first_task(ours: Side) -> None:
    """Celery loses them."""
    ours.library.chain(ours.add.s(1), ours.mul.s(2)).clone((3,)).apply_async()
    assert ours.published()[0]["body"][0] == [3, 1]


def test_a_workflow_can_be_sent_twice(ours: Side) -> None:
    """Celery gives both runs of a chain one id."""
    for flow in (
        ours.add.s(1, 1) | ours.mul.s(2),
        ours.library.group(ours.add.s(1, 1), ours.add.s(2, 2)),
        ours.library.chord([ours.add.s(1, 1)], ours.log.s() | ours.add.s(1)),
    ):
        before = json.dumps(flow)
        assert flow.apply_async().id != flow.apply_async().id
        assert json.dumps(flow) == before


@pytest.mark.parametrize("depth", [2, 4])
def test_the_size_of_messages_grows_with_the_number_of_tasks(ours: Side, depth: int) -> None:
    """However deep chords are nested, each task is in a message once."""

    def size(width: int) -> int:
        flow = ours.log.s()
        for _ in range(depth):
            flow = ours.library.group(ours.add.s(1, 1) for _ in range(width)) | ours.log.s() | flow
        (ours.add.s(1, 1) | flow).apply_async()
        return max(len(json.dumps(message["body"])) for message in ours.published())

    assert size(40) < 2.2 * size(20)


# -- stamps


def visitors(base: Any) -> list[Any]:
    """The same visitors for both libraries."""

    class Marks(base):  # type: ignore[misc]
        def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
            return {"mark": sig.task, "stamped_headers": ["mark"]}

    class Everywhere(Marks):
        def on_group_start(self, group: Any, **headers: Any) -> dict[str, Any]:
            return {"group_mark": len(group.tasks)}

        def on_chain_start(self, chain: Any, **headers: Any) -> dict[str, Any]:
            return {"chain_mark": len(chain.tasks)}

        def on_chord_body(self, sig: Any, **header: Any) -> dict[str, Any]:
            return {"body_mark": 1}

        def on_callback(self, callback: Any, **header: Any) -> dict[str, Any]:
            return {"callback_mark": 1, "stamped_headers": ["callback_mark"]}

        def on_errback(self, errback: Any, **header: Any) -> dict[str, Any]:
            return {"errback_mark": 1}

    return [Marks(), Everywhere()]


FLOWS: dict[str, Callable[[Parts], Any]] = {
    "task": lambda p: p.one,
    "links": lambda p: p.one.set(link=[p.end], link_error=[p.end]),
    "group": lambda p: p.group(p.one, p.mul.s(2, 2)),
    "chain": lambda p: p.one | p.mul.s(2),
    "chord": lambda p: p.chord([p.one, p.mul.s(2, 2)], p.end),
    "all": lambda p: p.one | p.group(p.add.s(1), p.add.s(2) | p.mul.s(3)) | p.end,
}


@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("appends", [False, True])
def test_visitors_stamp_as_in_celery(name: str, number: int, appends: bool, ours: Side, stock: Side) -> None:
    seen = []
    for side, base in ((stock, celery.canvas.StampingVisitor), (ours, StampingVisitor)):
        flow = FLOWS[name](Parts(side))
        flow.stamp(visitors(base)[number], append_stamps=appends, own="yes")
        flow.apply_async()
        seen.append(repr(normal(side.published())))
    assert seen[1] == seen[0]


@pytest.mark.parametrize("appends", [False, True])
@pytest.mark.parametrize("given", [{}, {"a": 1}, {"a": [1]}, {"stamped_headers": ["a"], "a": 1, "z": 5}])
@pytest.mark.parametrize(
    "visited", [None, {}, {"a": 2}, {"b": 2}, {"a": [2]}, {"stamped_headers": ["b"], "b": 3, "q": 4}]
)
@pytest.mark.parametrize("own", [None, {"stamped_headers": ["a"], "a": 9}, {"stamped_headers": ["c"], "c": 9}])
def test_stamps_merge_as_in_celery(appends: bool, given: Any, visited: Any, own: Any, stock: Side) -> None:
    theirs = (
        stock.add.s(1)
        .set(**json.loads(json.dumps(own or {})))
        ._stamp_headers(json.loads(json.dumps(visited)), appends, own is not None, **json.loads(json.dumps(given)))
    )
    mine = merged_stamps(given, visited, own, appends=appends)
    assert sorted(mine.pop("stamped_headers")) == sorted(theirs.pop("stamped_headers"))
    assert mine == theirs
