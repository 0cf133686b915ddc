"""What governs a node of our own app while it runs: its pool's size, rate limits. Asked by the stock client's protocol.

``test_node_settings.py`` has the same for an application of Celery's, beside the stock worker.
"""

from __future__ import annotations

from support.control_script import ask
from support.kinds import OWN
from support.stage import Stage
from support.waiting import eventually

_DEADLINE_S = 60.0


def test_pool_is_scaled_by_the_class_that_the_application_names() -> None:
    options = ("--autoscale=3,1", "--", "worker.autoscaler=scaled:ThriftyAutoscaler")
    with Stage(OWN, "scaled", options=options, environment={"AUTOSCALE_KEEPALIVE": "1"}) as stage:
        (made,) = stage.wait_for_journal("autoscaler", 1, deadline_s=_DEADLINE_S)
        assert (made["most"], made["least"]) == (3, 1)
        results = [stage.tasks.gated.delay("scaled", number) for number in range(6)]
        started = stage.wait_for_journal("scaled", 3, deadline_s=_DEADLINE_S)
        assert len({entry["pid"] for entry in started}) == 3
        stage.worker.wait_for_line("Scaling up 1 processes", deadline_s=_DEADLINE_S)
        assert ask(stage, "pool_grow", n=1) == {
            "error": "pool_grow is not supported with autoscale. Adjust autoscale range instead."
        }
        assert ask(stage, "autoscale", max=5, min=1) == {"ok": "autoscale now max=5 min=1"}
        stage.wait_for_journal("scaled", 5, deadline_s=_DEADLINE_S)
        stage.open_gate("scaled", 6)
        assert [result.get(timeout=_DEADLINE_S) for result in results] == list(range(6))
        stage.worker.wait_for_line("Scaling down", deadline_s=_DEADLINE_S)
        eventually(lambda: ask(stage, "stats")["autoscaler"]["current"] == 1, deadline_s=_DEADLINE_S)
        assert stage.journal("growth")


def test_rate_limit_holds_and_changes_at_run_time() -> None:
    with Stage(OWN, "scaled", options=("-c", "1")) as stage:
        for limit, said in (("200/s", "new rate limit set"), (0, "rate limit disabled")):
            first = len(stage.journal("hourly"))
            results = [stage.tasks.hourly.delay("hourly", number) for number in range(4)]
            # The bucket keeps one token at most: three wait at least, and the engine has them all.
            eventually(lambda: stage.queue_length() == 0 and stage.unacked() >= 3, deadline_s=_DEADLINE_S)
            assert len(stage.journal("hourly")) <= first + 1
            assert ask(stage, "rate_limit", task_name="scaled.hourly", rate_limit=limit) == {
                "ok": f"{said} successfully"
            }
            assert [result.get(timeout=_DEADLINE_S) for result in results] == list(range(4))
            again = {"ok": "new rate limit set successfully"}
            assert ask(stage, "rate_limit", task_name="scaled.hourly", rate_limit="1/h") == again


def test_rate_limits_can_be_switched_off() -> None:
    with Stage(OWN, "scaled", options=("-c", "1", "--", "worker.disable_rate_limits=yes")) as stage:
        for _ in range(2):
            results = [stage.tasks.hourly.delay("free", number) for number in range(5)]
            assert [result.get(timeout=_DEADLINE_S) for result in results] == list(range(5))
            assert ask(stage, "rate_limit", task_name="scaled.hourly", rate_limit="2/h") == {
                "ok": "new rate limit set successfully"
            }
