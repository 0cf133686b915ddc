"""Settings that govern what a node takes, keeps and gives up, beside the stock worker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support.processes import is_alive
from support.stage import Stage
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.kinds import Kind

pytestmark = [pytest.mark.lanes("fast"), pytest.mark.control]

SETTINGS = (
    "worker.eta_task_limit=10",
    "worker.deduplicate_successful_tasks=yes",
    "worker.cancel_long_running_tasks_on_connection_loss=yes",
)


@pytest.fixture(scope="module")
def stage(kind: Kind) -> Iterator[Stage]:
    with Stage(kind, "governed", options=("-c", "2", "--", *SETTINGS), has_notebook=True) as opened:
        yield opened


def cut_connections(stage: Stage) -> None:
    own = stage.redis.client_id()
    for entry in stage.redis.client_list():
        if int(entry["id"]) != own:
            stage.redis.client_kill_filter(_id=entry["id"])


def ask(stage: Stage, command: str, **arguments: Any) -> Any:
    replies = eventually(
        lambda: stage.app.control.broadcast(command, arguments=arguments, reply=True, timeout=8, limit=1),
        deadline_s=60,
        what=f"a reply to {command}",
    )
    return next(iter(replies[0].values()))


def test_message_that_comes_again_after_success_is_not_run_again(stage: Stage) -> None:
    # Kept in a queue that nobody reads, to be delivered twice.
    result = stage.tasks.once.apply_async(("again",), task_id="the-one", queue="aside")
    message = json.loads(stage.redis.lpop("aside"))
    message["properties"]["delivery_info"]["routing_key"] = "celery"
    stage.redis.lpush("celery", json.dumps(message))
    assert result.get(timeout=60) is False
    message["properties"]["delivery_info"]["redelivered"] = True
    message["properties"]["delivery_tag"] = "another-tag"
    position = stage.worker.mark()
    stage.redis.lpush("celery", json.dumps(message))
    stage.worker.wait_for_line(r"the-one.*already completed successfully", after=position, deadline_s=60)
    assert [entry["redelivered"] for entry in stage.journal("again")] == [False]


def test_prefetch_is_lower_after_a_connection_loss_until_tasks_end(stage: Stage) -> None:
    if stage.kind.is_stock:
        return  # on Redis it skips this from 5.7 on: it has no means there to raise the count again
    running = [stage.tasks.gated.delay("lowered", number) for number in range(2)]
    stage.wait_for_journal("lowered", 2, deadline_s=60)
    position = stage.worker.mark()
    cut_connections(stage)
    stage.worker.wait_for_line(
        "Temporarily reducing the prefetch count to 4 to avoid over-fetching since 2 tasks are currently being",
        after=position,
        deadline_s=60,
    )
    # The stock worker counts on with what it takes from now on.
    waiting = [stage.tasks.once.delay("raised") for _ in range(4)]
    stage.open_gate("lowered", 2)
    stage.worker.wait_for_line("Prefetch count has been restored to the maximum of 8", after=position, deadline_s=60)
    for result in running + waiting:
        result.get(timeout=60)


def test_running_late_task_is_cancelled_when_the_connection_is_lost_and_comes_back(stage: Stage) -> None:
    early = stage.tasks.gated.delay("cut-early", "early")
    late = stage.tasks.gated_late.delay("cut-late", "late")
    stage.wait_for_journal("cut-early", 1, deadline_s=60)
    (first,) = stage.wait_for_journal("cut-late", 1, deadline_s=60)
    position = stage.worker.mark()
    cut_connections(stage)
    stage.worker.wait_for_line("Connection to broker lost", after=position, deadline_s=60)
    eventually(lambda: not is_alive(first["pid"]), deadline_s=60, what="the end of the cancelled task's child")
    entries = stage.wait_for_journal("cut-late", 2, deadline_s=60)
    assert [entry["what"] for entry in entries] == ["start", "start"]
    stage.open_gate("cut-late", 2)
    stage.open_gate("cut-early", 1)
    # A stock client whose connections were cut may miss the announcement: it is asked for the result.
    eventually(lambda: late.ready() and early.ready(), deadline_s=60, what="both results")
    assert (late.get(timeout=60), early.get(timeout=60)) == ("late", "early")
    # Its message was acknowledged when it started: nobody else will get it, so it went on.
    assert [entry["what"] for entry in stage.journal("cut-early")] == ["start", "end"]


def test_no_more_eta_tasks_are_held_than_allowed(stage: Stage) -> None:
    """Last of this worker's tests: it takes nothing more."""
    for _ in range(30):
        stage.tasks.once.apply_async(("later",), countdown=3600, ignore_result=True)
    eventually(lambda: stage.unacked() >= 10, deadline_s=60, what="the limit is reached")
    assert len(ask(stage, "scheduled")) == 10
    assert (stage.unacked(), stage.queue_length()) == (10, 20)


def test_rate_limit_holds_and_changes_at_run_time(kind: Kind) -> None:
    with Stage(kind, "governed", options=("-c", "1")) as stage:
        results = [stage.tasks.hourly.delay("hourly", number) for number in range(4)]
        stage.wait_for_journal("hourly", 1, deadline_s=60)
        eventually(lambda: (stage.queue_length(), stage.unacked()) == (0, 3), deadline_s=60, what="three that wait")
        assert len(stage.journal("hourly")) == 1
        assert ask(stage, "rate_limit", task_name="governed.hourly", rate_limit="200/s") == {
            "ok": "new rate limit set successfully"
        }
        assert [result.get(timeout=60) for result in results] == list(range(4))
        assert ask(stage, "rate_limit", task_name="governed.hourly", rate_limit="1/h") == {
            "ok": "new rate limit set successfully"
        }
        results = [stage.tasks.hourly.delay("hourly", number) for number in range(4)]
        eventually(
            lambda: stage.queue_length() == 0 and stage.unacked() >= 3, deadline_s=60, what="three that wait again"
        )
        assert ask(stage, "rate_limit", task_name="governed.hourly", rate_limit=0) == {
            "ok": "rate limit disabled successfully"
        }
        assert [result.get(timeout=60) for result in results] == list(range(4))


def test_rate_limits_can_be_switched_off(kind: Kind) -> None:
    with Stage(kind, "governed", options=("-c", "1", "--", "worker.disable_rate_limits=yes")) as stage:
        results = [stage.tasks.hourly.delay("free", number) for number in range(5)]
        assert [result.get(timeout=60) for result in results] == list(range(5))
        assert ask(stage, "rate_limit", task_name="governed.hourly", rate_limit="2/h") == {
            "ok": "new rate limit set successfully"
        }
        results = [stage.tasks.hourly.delay("free", number) for number in range(5)]
        assert [result.get(timeout=60) for result in results] == list(range(5))


def test_pool_is_scaled_by_the_class_that_the_application_names(kind: Kind) -> None:
    options = ("--autoscale=3,1", "--", "worker.autoscaler=governed:ThriftyAutoscaler")
    with Stage(kind, "governed", options=options, environment={"AUTOSCALE_KEEPALIVE": "1"}) as stage:
        (made,) = stage.wait_for_journal("autoscaler", 1, deadline_s=60)
        assert (made["most"], made["least"]) == (3, 1)
        results = [stage.tasks.gated.delay("scaled", number) for number in range(6)]
        started = stage.wait_for_journal("scaled", 3, deadline_s=60)
        assert len({entry["pid"] for entry in started}) == 3
        stage.worker.wait_for_line("Scaling up 1 processes", deadline_s=60)
        eventually(lambda: ask(stage, "stats")["autoscaler"]["current"] == 3, deadline_s=60, what="three children")
        assert ask(stage, "pool_grow", n=1) == {
            "error": "pool_grow is not supported with autoscale. Adjust autoscale range instead."
        }
        assert ask(stage, "autoscale", max=5, min=1) == {"ok": "autoscale now max=5 min=1"}
        stage.wait_for_journal("scaled", 5, deadline_s=60)
        stage.open_gate("scaled", 6)
        for result in results:
            result.get(timeout=60)
        stage.worker.wait_for_line("Scaling down", deadline_s=60)
        eventually(lambda: ask(stage, "stats")["autoscaler"]["current"] == 1, deadline_s=60, what="one child again")
        assert stage.journal("growth")
