"""Flower on a stock worker and on ours: the same answers of its HTTP interface, field by field, and the same pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.flower import Flower, page_rows
from support.pair import pair, plain, shape
from support.waiting import eventually

if TYPE_CHECKING:
    from support.stage import Stage
    from support.worker import WorkerProcess

pytestmark = [pytest.mark.slow]

#: What Flower asks a worker for its page.
_INSPECTED = {
    "stats", "active_queues", "registered", "scheduled", "active", "reserved", "revoked", "conf", "timestamp",
}  # fmt: skip
#: Fields whose values are a moment's, or the process's own; that they are there, and their types, is compared.
_UNSTABLE = frozenset((
    "timestamp", "clock", "pid", "worker_pid", "time_start", "runtime", "local_received", "heartbeats", "loadavg",
    "active", "processed", "uptime", "rusage", "total", "processes", "writes", "eta", "received", "sent", "started",
    "succeeded", "failed", "retried", "revoked_at", "client", "port", "worker-heartbeat", "prefetch_count",
))  # fmt: skip
_DEADLINE_S = 60.0


def view(value: Any) -> Any:
    """Return an answer with everything put away that differs by nature."""
    if isinstance(value, dict):
        return {key: _hidden(key, each) if key in _UNSTABLE else view(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [view(each) for each in value]
    if isinstance(value, str) and value.startswith("Traceback"):
        return value.strip().splitlines()[-1]
    return plain(value)


def _hidden(key: str, value: Any) -> Any:
    # The number of running tasks, or the tasks themselves.
    return view(value) if key == "active" and isinstance(value, list) else shape(value)


class Visit:
    """Everything that Flower can be asked and told, on one stage."""

    def __init__(self, flower: Flower, stage: Stage, process: WorkerProcess) -> None:
        self.flower = flower
        self.stage = stage
        self.process = process
        self.node = process.node_name
        self.seen: dict[str, Any] = {}
        #: A second node, whose pool scales itself.
        self.scaled = self.node.replace("pair@", "scaled@")

    def note(self, name: str, answer: tuple[int, Any]) -> Any:
        """Keep an answer for the comparison."""
        self.seen[name] = view(list(answer))
        return answer[1]

    def worker(self, **wanted: int) -> Any:
        """Return what Flower knows of the worker once every part is there, lists of the wanted lengths."""

        def whole() -> Any:
            status, answer = self.flower.get("api/workers", refresh="true", workername=self.node)
            assert status == 200, answer
            found = answer.get(self.node, {})
            assert set(found) == _INSPECTED, f"only {sorted(found)}"
            lengths = {name: len(found[name]) for name in wanted}
            assert lengths == wanted, f"{lengths} instead of {wanted}"
            return found

        return eventually(whole, deadline_s=_DEADLINE_S)

    def task(self, task_id: str, state: str) -> tuple[int, Any]:
        """Return what Flower knows of a task once it is in a state."""

        def there() -> Any:
            status, answer = self.flower.get(f"api/task/info/{task_id}")
            assert status == 200 and answer["state"] == state, answer
            return status, answer

        found: tuple[int, Any] = eventually(there, deadline_s=_DEADLINE_S)
        return found

    def _is_retried(self, task_id: str) -> bool:
        status, answer = self.flower.get(f"api/task/info/{task_id}")
        return status == 200 and answer["retried"] is not None

    # -- the visit

    def tasks(self) -> None:
        """Send tasks by Flower and look at what becomes of them."""
        post, get, note = self.flower.post, self.flower.get, self.note
        eventually(lambda: self._status() is True, deadline_s=_DEADLINE_S, what="Flower has seen a heartbeat")
        sent = post("api/task/async-apply/tasks.add", {"args": [1, 2], "task_id": "task-ok"})
        # It may have ended by the time that Flower looks.
        assert sent[1].pop("state") in ("PENDING", "SUCCESS")
        note("async-apply", sent)
        note("info of a success", self.task("task-ok", "SUCCESS"))
        note("result", get("api/task/result/task-ok", timeout=30))
        note("apply", post("api/task/apply/tasks.mul", {"args": [6, 7], "task_id": "task-applied"}))
        sent = post("api/task/send-task/tasks.raising", {"args": ["no"], "task_id": "task-bad"})
        assert sent[1].pop("state") in ("PENDING", "FAILURE")
        note("send-task", sent)
        note("info of a failure", self.task("task-bad", "FAILURE"))
        note("result of a failure", get("api/task/result/task-bad", timeout=30))
        post("api/task/async-apply/tasks.retry_then_wait_at_gate", {"args": ["retry"], "task_id": "task-retry"})
        # A worker tells what its processes did in the order in which it hears of it: two attempts in two processes may
        # change places, and a retry that Flower hears of last stays the state.
        eventually(lambda: self._is_retried("task-retry"), deadline_s=_DEADLINE_S, what="Flower has seen the retry")
        self.stage.open_gate("retry")
        note("info of retries", self.task("task-retry", "FAILURE"))
        note("no such task", post("api/task/apply/tasks.none", {"args": []}))
        note("types", get("api/task/types"))
        note("queues", get("api/queues/length"))
        listed = get("api/tasks", sort_by="name")
        note("list", (listed[0], dict(sorted(listed[1].items()))))
        self.page("a success", "task/task-ok")
        self.page("a failure", "task/task-bad")

    def running(self) -> None:
        """Look at running, waiting and scheduled tasks; revoke and terminate."""
        post, note = self.flower.post, self.note
        for number in (1, 2):
            self.stage.tasks.gated.apply_async(("flower", number), task_id=f"run-{number}")
            self.stage.wait_for_journal("flower", number, deadline_s=_DEADLINE_S)
        self.stage.tasks.gated.apply_async(("flower", 3), task_id="wait-1")
        self.stage.tasks.add.apply_async((1, 2), countdown=600, task_id="eta-1")
        found = self.worker(active=2, reserved=1, scheduled=1)
        found["active"].sort(key=lambda each: each["id"])
        # Celery makes a set of the modules to include.
        found["conf"]["include"].sort()
        note("worker", (200, found))
        assert self.flower.get(f"worker/{self.node}")[0] == 200
        self.page("the worker", f"worker/{self.node}")
        self.task("run-1", "STARTED")
        self.page("a running task", "task/run-1")
        note("revoke", post("api/task/revoke/eta-1"))
        note("terminate", post("api/task/revoke/run-1", terminate="true", signal="SIGKILL"))
        note("info of a terminated task", self.task("run-1", "REVOKED"))
        self.worker(revoked=2)
        self.stage.open_gate("flower", 3)
        for task_id in ("run-2", "wait-1"):
            self.task(task_id, "SUCCESS")

    def control(self) -> None:
        """Everything on the worker's page that changes something."""
        post, note, node = self.flower.post, self.note, self.node
        note("rate-limit", post("api/task/rate-limit/tasks.mul", workername=node, ratelimit="200/m"))
        note("no rate-limit", post("api/task/rate-limit/tasks.mul", workername=node, ratelimit="fast"))
        note("timeout", post("api/task/timeout/tasks.mul", workername=node, soft=30, hard=60))
        note("abort", post("api/task/abort/task-none"))
        note("registered", (200, self.worker()["registered"]))
        note("add-consumer", post(f"api/worker/queue/add-consumer/{node}", queue="further"))
        note("queues then", (200, self.worker(active_queues=2)["active_queues"]))
        note("cancel-consumer", post(f"api/worker/queue/cancel-consumer/{node}", queue="further"))
        self.worker(active_queues=1)
        note("grow", post(f"api/worker/pool/grow/{node}", n=1))
        note("shrink", post(f"api/worker/pool/shrink/{node}", n=1))
        note("pool", (200, self.worker()["stats"]["pool"]["max-concurrency"]))
        note("restart", post(f"api/worker/pool/restart/{node}"))
        note("no autoscale", post(f"api/worker/pool/autoscale/{node}", min=1, max=3))
        note("autoscale", post(f"api/worker/pool/autoscale/{self.scaled}", min=1, max=3))
        note("no growth", post(f"api/worker/pool/grow/{self.scaled}", n=1))
        self.page("the scaled worker", f"worker/{self.scaled}")
        note("grow nobody", post("api/worker/pool/grow/nobody@nowhere", n=1))

    def pages(self) -> None:
        """The pages of all workers and tasks, the metrics."""
        workers = eventually(self._whole_workers, deadline_s=_DEADLINE_S, what="regular heartbeats of both nodes")
        self.page("workers", "workers")
        self.page("tasks", "tasks")
        self.page("broker", "broker")
        self.note("workers as JSON", (200, workers))
        metrics = self.flower.get("metrics")[1].splitlines()
        self.seen["metrics"] = sorted({line.partition("{")[0] for line in metrics if self.node in line})

    def _whole_workers(self) -> Any:
        """What the workers' page is made of, once both told more than that they are there."""
        workers = self.flower.get("workers", json="1")[1]["data"]
        told = {each["hostname"] for each in workers if each["active"] is not None and each["freq"] == 2.0}
        return told == {self.node, self.scaled} and sorted(workers, key=lambda each: str(each["hostname"]))

    def page(self, name: str, path: str) -> None:
        """Keep the first cell of each row: the names of what a page shows, whatever order they have."""
        status, html = self.flower.get(path)
        self.seen[f"page of {name}"] = [status, sorted(plain(row[0]) for row in page_rows(html))]

    def shutdown(self) -> None:
        """Flower ends the worker."""
        self.note("shutdown", self.flower.post(f"api/worker/shutdown/{self.node}"))
        self.process.wait_for_line("Got shutdown from remote", deadline_s=_DEADLINE_S)
        self.process.wait(deadline_s=_DEADLINE_S)
        eventually(lambda: not self._status(), deadline_s=_DEADLINE_S, what="Flower knows that the worker is gone")

    def _status(self) -> bool | None:
        answer = self.flower.get("api/workers", status="true")[1]
        found: bool | None = answer.get(self.node)
        return found


def _visit(stage: Stage) -> dict[str, Any]:
    first = stage.worker
    stage.new_worker(options=("--autoscale=2,2", "-Q", "elsewhere", "-n", "scaled@%h")).start()
    with Flower(broker=stage.server.url) as flower:
        visit = Visit(flower, stage, first)
        visit.tasks()
        visit.running()
        visit.control()
        visit.pages()
        visit.shutdown()
    return visit.seen


def test_flower_sees_and_does_the_same() -> None:
    settings = '{"worker_pool_restarts": true}'
    options = ("-E", "-c", "2")
    with pair("pyworker-fast", options=options, environment={"TEST_APP_SETTINGS": settings}) as (stock, ours):
        expected, got = _visit(stock), _visit(ours)
    differences = {key: (expected[key], got.get(key)) for key in expected if expected[key] != got.get(key)}
    text = "\n".join(f"{key}\n  stock {one}\n  ours  {two}" for key, (one, two) in differences.items())
    if differences or expected.keys() != got.keys():
        pytest.fail(f"{len(differences)} answers differ:\n{text}", pytrace=False)
