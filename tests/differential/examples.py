"""Every example of the user guide that a task API can be asked about, run against a real worker.

The very same text runs with Celery: ``tests/interop/test_differential.py`` changes the one import line below. What is
not here: the command line's examples (node names, log files, ``control``, the ``amqp`` shell: ``tests/unit/cli``,
``tests/integration``), tasks that are web addresses, which Celery no longer has
(``tests/unit/api/test_http_tasks.py``), and proxies that are evaluated later, which ours are not.
"""

import time
from datetime import datetime, timedelta, timezone
from io import StringIO

import pytest
from proj.tasks import (
    NOTES,
    add,
    adds_to_chord,
    app,
    backs_off,
    compress,
    doubles,
    hello,
    limited,
    mul,
    named,
    old_errback,
    on_error,
    raising,
    replaced_by_chain,
    replaced_by_chord,
    replaced_by_group,
    replaced_by_task,
    retried,
    same,
    sends_children,
    stamps,
    trebles,
    tsum,
    untyped,
    waits,
    waits_anyway,
    whoami,
    xsum,
)

from pyworker import Celery, chain, chord, chunks, exceptions, group, result, schedules, signature, states
from support.waiting import eventually

WAIT = {"timeout": 60}


def get(res, **options):
    return res.get(**WAIT, **options)


# -- calling


def test_a_task_called_directly_runs_here():
    assert add(2, 2) == 4
    assert add.s(2, 2)() == 4


def test_delay():
    assert get(add.delay(4, 4)) == 8
    res = add.delay(2, 2)
    assert get(res) == 4
    assert res.ready()
    assert res.successful()
    assert not res.failed()
    assert (res.state, res.status, res.result, res.info) == ("SUCCESS", states.SUCCESS, 4, 4)
    assert repr(res) == f"<AsyncResult: {res.id}>"


def test_callbacks():
    res = add.apply_async((2, 2), link=mul.s(16))
    assert get(res) == 4
    child = res.children[0]
    assert get(child) == 64
    assert list(res.collect()) == [(res, 4), (child, 64)]
    other = add.apply_async((2, 2), link=add.s(16))
    assert get(other) == 4
    assert get(other.children[0]) == 20
    third = add.apply_async((2, 2), link=[add.s(8), mul.s(3)])
    assert get(third) == 4
    assert sorted(get(each) for each in flat(third.children)) == [12, 12]


def flat(results):
    for each in results:
        if isinstance(each, result.GroupResult):
            yield from flat(each.results)
        else:
            yield each


def test_countdown_and_eta():
    begin = time.monotonic()
    assert get(add.apply_async((2, 2), countdown=1)) == 4
    assert time.monotonic() - begin >= 1
    tomorrow = datetime.now(timezone.utc) + timedelta(seconds=0.5)
    assert get(add.apply_async((2, 2), eta=tomorrow)) == 4
    assert datetime.now(timezone.utc) >= tomorrow


def test_an_expired_task_is_revoked():
    res = add.apply_async((1, 1), countdown=0.6, expires=0.2)
    error = get(res, propagate=False)
    assert isinstance(error, exceptions.TaskRevokedError)
    assert res.state == "REVOKED"


def test_ignored_results():
    assert add.apply_async((1, 2), ignore_result=True).get() is None
    assert get(add.apply_async((1, 2), ignore_result=False)) == 3


def test_arguments_are_checked_when_the_task_is_called():
    with pytest.raises(TypeError, match=r"add\(\)"):
        add.delay(8)
    with pytest.raises(TypeError):
        add.apply_async((1, 2), {"nonsense": 1})
    res = untyped.delay(8)
    assert isinstance(get(res, propagate=False), TypeError)


def test_states_of_ones_own():
    seen = []
    res = hello.apply_async(args=(1, 1), countdown=0.4)
    if app.conf.result_backend.startswith("sqlite"):
        # A file keeps a task's last state alone: nobody can be told of each. Celery refuses ``on_message`` there.
        assert get(res) == "hello world: 2"
        return
    value = get(res, on_message=seen.append, propagate=False)
    assert value == "hello world: 2"
    shown = [(message["status"], message["result"]) for message in seen]
    assert shown[-1] == ("SUCCESS", value)
    assert [each for each in shown if each[0] == "PROGRESS"] == [
        ("PROGRESS", {"progress": 50}),
        ("PROGRESS", {"progress": 90}),
    ]


def test_rate_limits():
    starts = sorted(get(res) for res in [limited.delay() for _ in range(3)])
    # 600 ms between two of them; Celery's own bucket counts the first ones together.
    assert starts[2] - starts[0] >= 1


def test_backoff():
    begin = time.time()
    assert get(backs_off.delay()) - begin >= 1


def test_backoff_grows_up_to_a_limit():
    def asked(task, retries):
        return get(task.apply_async(retries=retries), propagate=False).args[0]

    assert [asked(doubles, retries) for retries in range(4)] == [1, 2, 4, 8]
    assert [asked(trebles, retries) for retries in range(4)] == [3, 6, 12, 24]
    assert asked(doubles, 12) == 600


def test_retries_end_with_the_exception():
    res = retried.delay(0)
    with pytest.raises(ValueError, match="again"):
        get(res)
    assert res.retries == 2


def test_options_of_every_kind():
    res = add.apply_async(
        (1, 2), queue="celery", priority=3, headers={"x-user": "me"}, expires=60,
        argsrepr="(<secret-x>, <secret-y>)", shadow="other.name", time_limit=10, soft_time_limit=5,
    )  # fmt: skip
    assert get(res) == 3


def test_the_request():
    res = whoami.delay()
    assert get(res) == {
        "id": res.id, "root_id": res.id, "parent_id": None, "retries": 0, "called_directly": False,
        "delivery": "celery", "group": None,
    }  # fmt: skip
    assert whoami.apply_async(task_id="chosen").id == "chosen"


def test_send_task():
    assert get(app.send_task("proj.tasks.add", (2, 3))) == 5
    res = app.send_task("sum-of-two-numbers", kwargs={"x": 1, "y": 2})
    assert get(res) == 3


def test_routers():
    def route(name, args, kwargs, options, task=None, **_):
        return {"queue": "video", "routing_key": "video.compress"} if name == "proj.tasks.compress" else None

    routed = Celery("routed", set_as_current=False)
    routed.conf.update(
        {name: app.conf[name] for name in ("broker_url", "result_backend", "task_queues")}, task_routes=(route,)
    )
    assert get(routed.send_task("proj.tasks.compress", ("a.mp4",))) == ["a.mp4", "video", "video.compress"]
    assert get(routed.send_task("proj.tasks.add", (1, 2))) == 3
    # The same from a task's side, the route's key replaced by the call's.
    res = compress.apply_async(("b.mp4",), queue="video", routing_key="video.b")
    assert get(res) == ["b.mp4", "video", "video.b"]
    routed.close()


# -- remote control


def test_remote_control():
    (reply,) = app.control.ping(timeout=20, limit=1)
    ((node, answer),) = reply.items()
    assert answer == {"ok": "pong"}
    asked = {"reply": True, "destination": [node], "timeout": 20}

    def ok(replies):
        ((found,),) = [each.values() for each in replies]
        return found["ok"]

    assert ok(app.control.rate_limit(named.name, "200/m", **asked)) == "new rate limit set successfully"
    assert ok(app.control.time_limit(named.name, soft=60, hard=120, **asked)) == "time limits set successfully"
    assert ok(app.control.add_consumer("foo", **asked)) == "add consumer foo"
    assert get(add.apply_async((1, 2), queue="foo")) == 3
    assert ok(app.control.add_consumer("foo", **asked)) == "add consumer foo"
    assert ok(app.control.cancel_consumer("foo", **asked)) == "no longer consuming from foo"
    inspected = app.control.inspect([node], timeout=20)
    assert "proj.tasks.add" in inspected.registered()[node]

    def is_cancelled():
        if {queue["name"] for queue in inspected.active_queues()[node]} == {"celery", "video"}:
            return True
        app.control.cancel_consumer("foo", **asked)
        return False

    # A stock worker cancels after it has answered, and now and then not at all.
    eventually(is_cancelled, deadline_s=60, what="the queue is no longer consumed")
    assert (inspected.scheduled(), inspected.reserved()) == ({node: []}, {node: []})


# -- schedules

CRONTABS = [
    ({}, (1, 1, 0, 1)),
    ({"minute": 0, "hour": 0}, (1, 2, 0, 0)),
    ({"minute": 0, "hour": "*/3"}, (1, 1, 3, 0)),
    ({"minute": 0, "hour": "0,3,6,9,12,15,18,21"}, (1, 1, 3, 0)),
    ({"minute": "*/15"}, (1, 1, 0, 15)),
    ({"day_of_week": "sunday"}, (1, 4, 0, 0)),
    ({"minute": "*", "hour": "*", "day_of_week": "sun"}, (1, 4, 0, 0)),
    ({"minute": "*/10", "hour": "3,17,22", "day_of_week": "thu,fri"}, (1, 1, 3, 0)),
    ({"minute": 0, "hour": "*/2,*/3"}, (1, 1, 2, 0)),
    ({"minute": 0, "hour": "*/5"}, (1, 1, 5, 0)),
    ({"minute": 0, "hour": "*/3,8-17"}, (1, 1, 3, 0)),
    ({"minute": 0, "hour": 0, "day_of_month": "2"}, (1, 2, 0, 0)),
    ({"minute": 0, "hour": 0, "day_of_month": "2-30/2"}, (1, 2, 0, 0)),
    ({"minute": 0, "hour": 0, "day_of_month": "1-7,15-21"}, (1, 2, 0, 0)),
    ({"minute": 0, "hour": 0, "day_of_month": "11", "month_of_year": "5"}, (5, 11, 0, 0)),
    ({"minute": 0, "hour": 0, "month_of_year": "*/3"}, (1, 2, 0, 0)),
    ({"hour": 7, "minute": 30, "day_of_week": 1}, (1, 5, 7, 30)),
]


@pytest.mark.parametrize(("fields", "due"), CRONTABS, ids=str)
def test_crontabs(fields, due):
    # A Thursday.
    now = datetime(2026, 1, 1, 0, 0, 30, tzinfo=timezone.utc)
    entry = schedules.crontab(**fields, nowfun=lambda: now, app=app)
    assert now + entry.remaining_estimate(now) == datetime(2026, *due, tzinfo=timezone.utc)


# -- names


def test_names():
    assert Celery("tasks", set_as_current=False).main == "tasks"
    assert add.name == "proj.tasks.add"
    assert named.name == "sum-of-two-numbers"

    class MyCelery(Celery):
        def gen_task_name(self, name, module):
            return super().gen_task_name(name, module.removesuffix(".tasks"))

    mine = MyCelery("main", set_as_current=False)
    assert mine.gen_task_name("taskA", "moduleA.tasks") == "moduleA.taskA"


# -- results


def test_an_unknown_result_is_pending():
    assert app.AsyncResult("this-id-does-not-exist").state == "PENDING"
    assert result.AsyncResult("this-id-does-not-exist", app=app).state == "PENDING"


def test_failures():
    res = add.delay(2, "2")
    error = get(res, propagate=False)
    assert isinstance(error, TypeError)
    assert str(error) == "unsupported operand type(s) for +: 'int' and 'str'"
    assert res.failed()
    assert not res.successful()
    assert res.state == "FAILURE"
    assert "Traceback" in res.traceback
    with pytest.raises(TypeError):
        get(res)


def test_timeouts():
    with pytest.raises(exceptions.TimeoutError):
        app.AsyncResult("never").get(timeout=0.2)


def test_extended_results():
    res = add.delay(1, 2)
    get(res)
    assert (res.name, list(res.args), res.kwargs, res.retries, res.queue) == ("proj.tasks.add", [1, 2], {}, 0, "celery")
    assert res.date_done is not None
    assert res.worker


def test_forget():
    res = add.delay(1, 1)
    assert get(res) == 2
    twin = app.AsyncResult(res.id)
    assert twin.state == "SUCCESS"
    twin.forget()
    assert app.AsyncResult(res.id).state == "PENDING"
    app.backend.store_result(res.id, 2, "SUCCESS")


def test_waiting_in_a_task_is_refused():
    res = waits.delay()
    assert isinstance(get(res, propagate=False), RuntimeError)
    done = add.delay(1, 1)
    assert get(done) == 2
    assert get(waits_anyway.delay(done.id)) == 2


def test_children_of_a_task():
    res = sends_children.delay()
    ids = get(res)
    assert [child.id for child in res.children] == ids
    assert [get(child) for child in res.children] == [1, 2]


def test_graphs():
    res = chain(add.s(4, 4), mul.s(8), mul.s(10))()
    assert get(res) == 640
    first = res.parent.parent
    for each in (res, res.parent, first):
        get(each)
    drawn = StringIO()
    res.parent.parent.graph.to_dot(drawn)
    assert drawn.getvalue().startswith("digraph")
    text = str(res.parent.parent.graph)
    for each in (res, res.parent, first):
        assert each.id in text


# -- groups


def test_groups():
    assert get(group(add.s(i, i) for i in range(10))()) == [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]
    assert get(group(add.s(i) for i in range(10))(10)) == list(range(10, 20))
    assert get(group(add.s(2, 2), add.s(4, 4))()) == [4, 8]
    pairs = [(2, 2), (4, 4), (8, 8), (16, 16)]
    assert get(group(add.s(i, j) for i, j in pairs).apply_async()) == [4, 8, 16, 32]


def test_group_results():
    job = group([add.s(2, 2), add.s(4, 4), add.s(8, 8), add.s(16, 16), add.s(32, 32)])
    res = job.apply_async()
    assert get(res) == [4, 8, 16, 32, 64]
    assert res.ready()
    assert res.successful()
    assert not res.failed()
    assert not res.waiting()
    assert res.completed_count() == 5
    assert res.join(timeout=60) == [4, 8, 16, 32, 64]
    assert len(res) == 5
    assert bool(res)
    assert res[1].get() == 8
    assert [each.get() for each in res] == [4, 8, 16, 32, 64]
    res.save()
    again = result.GroupResult.restore(res.id, app=app)
    assert again == res
    assert again.join(timeout=60) == [4, 8, 16, 32, 64]
    again.delete()
    assert result.GroupResult.restore(res.id, app=app) is None


def test_a_failure_in_a_group():
    res = group(add.s(1, 1), raising.s())()
    with pytest.raises(ValueError, match="something was wrong"):
        get(res)
    values = get(res, propagate=False)
    assert values[0] == 2
    assert isinstance(values[1], ValueError)
    assert res.failed()


def test_skew():
    countdowns = [
        task.options["countdown"] for task in group(add.s(i, i) for i in range(3)).skew(start=1, stop=10).tasks
    ]
    assert countdowns == [1, 2, 3]
    assert get(group(add.s(i, i) for i in range(2)).skew(start=0.1, step=0.1)()) == [0, 2]


def test_an_empty_group():
    res = group([]).apply_async()
    assert res.results == []
    assert res.get(timeout=1) == []


def test_groups_in_groups():
    assert get(group(group(add.s(1, 1), add.s(2, 2)), add.s(3, 3))()) == [2, 4, 6]


# -- chains


def test_chains():
    assert get(chain(add.s(4, 4) | mul.s(8))()) == 64
    assert get(chain(add.s(4) | mul.s(8))(4)) == 64
    assert get((add.s(4, 4) | mul.s(8))()) == 64
    assert get(chain(add.s(2, 2), add.s(4), add.s(8))()) == 16
    assert get((add.s(2, 2) | add.s(4) | add.s(8))()) == 16
    assert get((add.s(4) | mul.s(8))(16)) == 160


def test_chains_of_chains():
    c1 = add.s(4) | mul.s(8)
    assert get((add.s(4, 16) | mul.s(2) | c1)()) == 352


def test_immutable_chains_and_parents():
    res = (add.si(2, 2) | add.si(4, 4) | add.si(8, 8))()
    assert get(res) == 16
    assert get(res.parent) == 8
    assert get(res.parent.parent) == 4
    other = chain(add.s(4, 4), mul.s(8), mul.s(10))()
    assert get(other) == 640
    assert get(other.parent) == 64
    assert get(other.parent.parent) == 8


def test_a_failure_ends_a_chain():
    res = (raising.si() | add.si(1, 1) | add.si(2, 2))()
    with pytest.raises(ValueError, match="something was wrong"):
        get(res)
    assert res.parent.parent.failed()


# -- chords
#
# The task of a header that ends last is the parent of the body. So that it is the same one in every run, there is one
# child, and what takes more than one task stands last in its header.


def test_chords():
    assert get(chord((add.s(i, i) for i in range(10)), xsum.s())()) == 90
    assert get(chord(add.s(i, i) for i in range(100))(tsum.s())) == 9900
    assert get((group(add.s(i, i) for i in range(10)) | xsum.s())()) == 90
    assert get(chord([add.s(1, 1)])(xsum.s())) == 2
    assert get(chord([])(xsum.s())) == 0
    assert get(chord([add.s(1, 1)], add.si(5, 5))()) == 10


def test_a_chord_whose_header_fails():
    res = chord([add.s(4, 4), raising.s(), add.s(8, 8)])(xsum.s())
    with pytest.raises(exceptions.ChordError, match=r"Dependency [-0-9a-f]+ raised ValueError\('something was wrong'"):
        get(res, follow_parents=False)
    assert get(res.parent.results[2]) == 16
    assert res.failed()


def test_error_callbacks():
    res = raising.apply_async(link_error=on_error.s())
    with pytest.raises(ValueError, match="something"):
        get(res)
    assert noted(res) == "ValueError: something was wrong"
    old = raising.apply_async(link_error=old_errback.s())
    assert noted(old) == "ValueError: something was wrong"
    whole = chord([add.s(1, 1), raising.s()])(xsum.s().on_error(on_error.s()))
    assert noted(whole).startswith("ChordError: Dependency")


def noted(res):
    """What an error callback wrote down of a task."""
    path = NOTES / res.id
    return eventually(lambda: path.exists() and path.read_text(), deadline_s=60, what="the failure is written down")


def test_groups_before_between_and_after():
    assert get((add.s(4, 4) | group(add.s(i) for i in range(3)))()) == [8, 9, 10]
    res = (add.s(4, 4) | group(add.si(i, i) for i in range(10)))()
    assert get(res) == list(range(0, 20, 2))
    assert get(res.parent) == 8
    assert get((add.s(1, 1) | group(add.s(1), add.s(2)) | xsum.s() | mul.s(10))()) == 70
    assert get((group(add.s(1, 1), add.s(2, 2)) | group(xsum.s(), xsum.s()))()) == [6, 6]
    assert get((group(add.s(1, 1), add.s(2, 2)) | group(xsum.s(), xsum.s()) | xsum.s())()) == 12


def test_chords_in_chords():
    inner = chord([add.s(1, 1), add.s(2, 2)], xsum.s())
    assert get(chord([add.s(4, 4), inner], xsum.s())()) == 14
    assert get(chord([add.s(1, 1), add.s(2, 2)], xsum.s() | add.s(1) | mul.s(2))()) == 14
    assert get((chord([add.s(1, 1), add.s(2, 2)], xsum.s()) | add.s(1) | mul.s(2))()) == 14
    assert get(chord([add.s(1, 1) | mul.s(2), add.s(2, 2) | mul.s(3)], xsum.s())()) == 16


def test_groups_at_the_end_of_a_headers_chains():
    header = [add.s(5, 5), add.s(1, 1) | group(add.s(1), add.s(2))]
    assert get(chord(header, same.s())()) == [10, [3, 4]]


def test_workflows_of_everything():
    flow = chain(
        add.s(1, 1),
        group(add.s(1) | group(add.s(1), add.s(2)) | xsum.s(), add.s(4)),
        xsum.s(),
        group(add.s(1), add.s(2)),
        xsum.s(),
    )
    assert get(flow()) == 33


# -- maps


def test_maps():
    assert get(xsum.map([list(range(10)), list(range(100))]).delay()) == [45, 4950]
    assert ~xsum.map([list(range(10)), list(range(100))]) == [45, 4950]
    assert ~add.starmap(zip(range(10), range(10))) == list(range(0, 20, 2))


def test_chunks():
    res = add.chunks(zip(range(100), range(100)), 10)()
    parts = get(res)
    assert parts == [list(range(start, start + 20, 2)) for start in range(0, 200, 20)]
    assert len(add.chunks(zip(range(1000), range(1000)), 10).group().tasks) == 100
    assert isinstance(add.chunks(zip(range(10), range(10)), 5), chunks)


# -- signatures


def test_parts_of_signatures():
    sig = add.signature((2, 2), {"debug": True}, countdown=10)
    assert (sig.args, sig.kwargs, sig.options) == ((2, 2), {"debug": True}, {"countdown": 10})
    assert signature("proj.tasks.add", args=(2, 2), countdown=10, app=app) == add.signature((2, 2), countdown=10)


def test_reprs():
    assert repr(add.s(2, 2)) == "proj.tasks.add(2, 2)"
    assert repr(add.s(2, 2, debug=True)) == "proj.tasks.add(2, 2, debug=True)"
    assert repr(group(add.s(2, 2), add.s(4, 4))) == "group((proj.tasks.add(2, 2), add(4, 4)))"
    assert repr(add.s(4, 4) | mul.s(8) | mul.s(10)) == "proj.tasks.add(4, 4) | mul(8) | mul(10)"
    assert repr(chord([add.s(1, 1)], xsum.s())) == "%proj.tasks.xsum([add(1, 1)])"
    assert repr(add.s(2).clone(args=(4,), kwargs={"debug": True})) == "proj.tasks.add(4, 2, debug=True)"
    assert repr(xsum.map([1])) == "[proj.tasks.xsum(x) for x in [1]]"


def test_partial_signatures():
    assert get(add.s(2).delay(8)) == 10
    res = add.s(2, 2, debug=True).delay(debug=False)
    assert (get(res), res.kwargs) == (4, {"debug": False})
    assert get(add.signature((2, 2), countdown=10).apply_async(countdown=0.1)) == 4
    assert get(add.si(2, 2).delay(8)) == 4
    assert ~add.s(2, 2) == 4


def test_links_of_signatures():
    sig = add.s(2, 2)
    sig.link(mul.s(4))
    sig.on_error(on_error.s())
    res = sig.delay()
    assert get(res) == 4
    assert get(res.children[0]) == 16


def test_stamps():
    sig = stamps.s()
    sig.stamp(stamp="a", other=["b"])
    names, values = get(sig.delay())
    assert sorted(names) == ["other", "stamp"]
    assert values == {"stamp": "a", "other": ["b"]}


# -- inside tasks


def test_replaced_tasks():
    assert get(replaced_by_task.delay(1)) == 101
    assert get(replaced_by_chain.delay(1)) == 20
    assert get(replaced_by_group.delay(1)) == [1, 2, 3]
    assert get(replaced_by_chord.delay(1)) == 6


def test_replaced_tasks_in_a_chain():
    assert get((add.s(1, 1) | replaced_by_task.s() | mul.s(2))()) == 204
    assert get((add.s(1, 1) | replaced_by_chain.s() | mul.s(2))()) == 60
    assert get((add.s(1, 1) | replaced_by_group.s() | xsum.s())()) == 9
    assert get((add.s(1, 1) | replaced_by_chord.s() | mul.s(2))()) == 18


def test_replaced_tasks_in_a_group_and_a_chord():
    assert get(group(replaced_by_task.s(1), add.s(1, 1))()) == [101, 2]
    assert get(chord([add.s(1, 1), replaced_by_task.s(1)], xsum.s())()) == 103
    assert get(chord([add.s(1, 1), replaced_by_chain.s(1)], xsum.s())()) == 22
    assert get(chord([add.s(1, 1), replaced_by_chord.s(1)], xsum.s())()) == 8


def test_a_task_added_to_a_chord():
    assert get(chord([add.s(1, 1), adds_to_chord.s(1)], xsum.s())()) == 4
