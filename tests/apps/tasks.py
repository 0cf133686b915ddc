"""A plain Celery app as users write it: the examples of Celery's own guide and a little more."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime
from typing import Any

import journal
import lanes
from celery import Celery, Task, chord, group
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from celery.utils.log import get_task_logger

app = Celery("tasks", **lanes.new_app_settings())
app.conf.update(
    broker_connection_retry_on_startup=True,
    result_extended=False,
    timezone="UTC",
    worker_hijack_root_logger=True,
)
app.conf.update(json.loads(os.environ.get("TEST_APP_SETTINGS", "{}")))
if os.environ["TEST_BROKER_URL"].startswith("sqlite:"):
    # Makes the transport known to kombu, for a stock worker too.
    importlib.import_module("pyworker")
lanes.enter_lane()
logger = get_task_logger(__name__)


# -- the guide's arithmetic


@app.task
def add(x: Any, y: Any, debug: bool = False) -> Any:
    return x + y


@app.task
def mul(x: Any, y: Any) -> Any:
    return x * y


@app.task
def xsum(numbers: list[Any]) -> Any:
    return sum(numbers)


@app.task
def tsum(numbers: list[Any]) -> Any:
    return sum(numbers)


@app.task
def raising(text: str = "I am raised") -> None:
    raise ValueError(text)


@app.task(typing=False)
def add_unchecked(x: int, y: int) -> int:
    return x + y


@app.task(name="sum-of-two-numbers")
def named(x: int, y: int) -> int:
    return x + y


@app.task(bind=True)
def hello(self: Task, a: int, b: int) -> str:
    self.update_state(state="PROGRESS", meta={"progress": 50})
    self.update_state(state="PROGRESS", meta={"progress": 90})
    return f"hello world: {a + b}"


@app.task
def show(value: Any, debug: bool = True) -> dict[str, Any]:
    return {"value": value, "debug": debug}


@app.task
def echo(*args: Any, **kwargs: Any) -> dict[str, Any]:
    return {"args": list(args), "kwargs": kwargs}


@app.task
def identity(value: Any) -> Any:
    return value


@app.task
def type_names(*values: Any) -> list[str]:
    return [type(value).__name__ for value in values]


# -- what a task may ask about its request


@app.task(bind=True)
def describe_request(self: Task, *args: Any, **kwargs: Any) -> dict[str, Any]:
    names = (
        "id group chord correlation_id args kwargs origin retries is_eager eta expires hostname delivery_info "
        "reply_to called_directly timelimit callbacks errbacks utc headers root_id parent_id chain task shadow "
        "group_index ignore_result replaced_task_nesting stamped_headers stamps argsrepr kwargsrepr lang properties"
    )
    request = self.request
    found = {name: getattr(request, name, "absent") for name in names.split()}
    found["custom"] = request.get("custom", "absent")
    return found


# -- retries


@app.task(bind=True, max_retries=3, default_retry_delay=0.01)
def flaky(self: Task, failures: int) -> int:
    retries: int = self.request.retries
    if retries < failures:
        raise self.retry(exc=ValueError(f"attempt {retries}"))
    return retries


@app.task(bind=True, max_retries=2, default_retry_delay=0.01)
def retry_without_exception(self: Task) -> None:
    raise self.retry()


@app.task(bind=True, max_retries=1, default_retry_delay=0.01)
def retry_then_wait_at_gate(self: Task, gate: str) -> None:
    """Retry once; the second attempt, which is one too many, fails once its gate is open."""
    if self.request.retries:
        journal.wait_at_gate(gate)
    raise self.retry()


@app.task(bind=True, max_retries=5)
def retry_with_other_arguments(self: Task, value: int) -> int:
    if value < 3:
        raise self.retry(args=(value + 1,), countdown=0.01)
    return value


@app.task(bind=True, max_retries=None)
def retry_for_ever(self: Task, journal_name: str, countdown: float = 0.02, until: int = 12) -> int:
    journal.stamp(journal_name, "attempt", retries=self.request.retries)
    if self.request.retries < until:
        self.retry(countdown=countdown, throw=False)
        raise Ignore
    return int(self.request.retries)


@app.task(bind=True, autoretry_for=(KeyError,), max_retries=3, retry_backoff=True, retry_jitter=False)
def backing_off(self: Task, journal_name: str) -> None:
    journal.stamp(journal_name, "attempt", retries=self.request.retries)
    raise KeyError("again")


@app.task(bind=True, autoretry_for=(KeyError,), retry_kwargs={"max_retries": 2, "countdown": 0.01})
def autoretried(self: Task, journal_name: str) -> None:
    journal.stamp(journal_name, "attempt", retries=self.request.retries)
    raise KeyError("again")


@app.task(bind=True, autoretry_for=(Exception,), dont_autoretry_for=(KeyError,), retry_kwargs={"countdown": 0.01})
def not_retried_for_keys(self: Task, journal_name: str) -> None:
    journal.stamp(journal_name, "attempt", retries=self.request.retries)
    raise KeyError("never again")


# -- states and endings other than success and failure


@app.task(bind=True)
def ignored(self: Task) -> None:
    raise Ignore


@app.task(bind=True)
def own_state_then_ignored(self: Task) -> None:
    self.update_state(state="PARKED", meta={"why": "to see"})
    raise Ignore


@app.task(acks_late=True)
def rejected(journal_name: str) -> None:
    journal.record(journal_name)
    raise Reject("no use", requeue=False)


@app.task(bind=True, acks_late=True)
def rejected_until_redelivered(self: Task, journal_name: str) -> str:
    redelivered = bool(self.request.delivery_info.get("redelivered"))
    journal.record(journal_name, redelivered=redelivered)
    if not redelivered:
        raise Reject("once more", requeue=True)
    return "second time"


@app.task(track_started=True)
def started_is_seen(gate: str) -> str:
    journal.record(gate, what="in")
    journal.wait_at_gate(gate)
    return "out"


@app.task(throws=(LookupError,))
def expected_error() -> None:
    raise LookupError("as announced")


@app.task(ignore_result=True)
def result_ignored(journal_name: str) -> int:
    journal.record(journal_name)
    return 1


@app.task(ignore_result=True, store_errors_even_if_ignored=True)
def error_kept() -> None:
    raise ValueError("kept")


class UnpickleableError(Exception):
    """An exception that cannot be rebuilt from its ``args``."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


@app.task
def raises_unpickleable() -> None:
    raise UnpickleableError("one", "two")


@app.task
def returns_what_json_cannot() -> object:
    return object()


@app.task
def raises_system_exit(code: int) -> None:
    sys.exit(code)


@app.task
def raises_keyboard_interrupt() -> None:
    raise KeyboardInterrupt


@app.task
def raises_from_cause() -> None:
    try:
        raise KeyError("the cause")
    except KeyError as error:
        raise RuntimeError("the effect") from error


# -- workflow parts


@app.task
def note_error(request: Any, exc: Any, traceback: Any) -> None:
    journal.record("errors", id=request.id, exc=repr(exc), traceback=str(traceback))


@app.task
def note_error_id(task_id: str) -> None:
    journal.record("error-ids", id=task_id)


@app.task(bind=True)
def replaced_by_sum(self: Task, x: int, y: int) -> None:
    raise self.replace(add.s(x, y))


@app.task(bind=True)
def replaced_by_group(self: Task, numbers: list[int]) -> None:
    raise self.replace(group(add.s(number, 1) for number in numbers))


@app.task(bind=True)
def replaced_by_chord(self: Task, numbers: list[int]) -> None:
    raise self.replace(chord([add.s(number, 1) for number in numbers], xsum.s()))


@app.task(bind=True)
def adds_to_chord(self: Task, x: int) -> int:
    return x


@app.task(bind=True)
def starts_others(self: Task, count: int) -> list[str]:
    return [add.delay(number, number).id for number in range(count)]


@app.task
def waits_for_other(x: int, y: int) -> int:
    return int(add.delay(x, y).get(disable_sync_subtasks=False, timeout=10))


@app.task
def waits_as_forbidden(x: int, y: int) -> int:
    return int(add.delay(x, y).get(timeout=30))


# -- time and order


@app.task(bind=True)
def stamped(self: Task, journal_name: str, label: Any = None) -> float:
    now = time.time()
    journal.stamp(journal_name, "run", label=label, wall=now, id=self.request.id)
    return now


@app.task(rate_limit="600/m")
def rate_limited(journal_name: str) -> None:
    journal.stamp(journal_name, "run")


@app.task(bind=True)
def gated(self: Task, gate: str, label: Any = None) -> Any:
    journal.stamp(gate, "start", label=label, id=self.request.id)
    journal.wait_at_gate(gate)
    journal.stamp(gate, "end", label=label, id=self.request.id)
    return label


@app.task(bind=True, acks_late=True)
def gated_late(self: Task, gate: str, label: Any = None) -> Any:
    redelivered = bool(self.request.delivery_info.get("redelivered"))
    journal.stamp(gate, "start", label=label, id=self.request.id, redelivered=redelivered)
    journal.wait_at_gate(gate)
    journal.stamp(gate, "end", label=label, id=self.request.id)
    return label


@app.task
def burn(seconds: float, journal_name: str = "", label: Any = None) -> Any:
    """Use the processor for so long."""
    if journal_name:
        journal.stamp(journal_name, "start", label=label)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    if journal_name:
        journal.stamp(journal_name, "end", label=label)
    return label


@app.task(bind=True)
def busy(self: Task, seconds: float, journal_name: str = "", label: Any = None) -> Any:
    """Wait without using the processor, as tasks that wait for a service do."""
    if journal_name:
        journal.stamp(journal_name, "start", label=label, id=self.request.id)
    threading.Event().wait(seconds)
    if journal_name:
        journal.stamp(journal_name, "end", label=label, id=self.request.id)
    return label


# -- limits


@app.task(soft_time_limit=1)
def softly_limited(journal_name: str) -> str:
    try:
        threading.Event().wait(60)
    except SoftTimeLimitExceeded as error:
        journal.record(journal_name, exc=repr(error))
        return "cleaned up"
    return "not limited"


@app.task(soft_time_limit=1)
def softly_limited_uncaught() -> None:
    threading.Event().wait(60)


@app.task(time_limit=1)
def hard_limited(journal_name: str) -> None:
    journal.record(journal_name)
    threading.Event().wait(60)


@app.task
def wait_long(journal_name: str) -> str:
    journal.record(journal_name)
    threading.Event().wait(60)
    return "not limited"


# -- dying processes


@app.task
def kill_own_process(journal_name: str) -> None:
    journal.record(journal_name)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(acks_late=True)
def kill_own_process_late(journal_name: str) -> None:
    journal.record(journal_name)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(bind=True, acks_late=True, reject_on_worker_lost=True)
def kill_own_process_once(self: Task, journal_name: str) -> str:
    journal.record(journal_name, redelivered=bool(self.request.delivery_info.get("redelivered")))
    if len(journal.client().lrange(f"journal:{journal_name}", 0, -1)) < 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


@app.task(acks_late=True, reject_on_worker_lost=True)
def poison(journal_name: str) -> None:
    journal.record(journal_name)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def exit_own_process(code: int) -> None:
    os._exit(code)


@app.task(acks_late=True)
def count_late(journal_name: str, member: str) -> int:
    return journal.count(journal_name, member)


@app.task
def count_early(journal_name: str, member: str) -> int:
    return journal.count(journal_name, member)


@app.task(acks_late=True)
def count_late_busy(journal_name: str, member: str, seconds: float) -> int:
    threading.Event().wait(seconds)
    return journal.count(journal_name, member)


# -- processes, signals, output


@app.task
def process_id() -> int:
    return os.getpid()


@app.task
def run_subprocess() -> str:
    return subprocess.run(
        [sys.executable, "-c", "print('from a child of a child')"], check=True, capture_output=True, text=True
    ).stdout.strip()


@app.task
def run_shell_pipeline() -> str:
    return subprocess.check_output("printf 'a\\nb\\n' | wc -l", shell=True, text=True).strip()


@app.task
def run_multiprocessing() -> list[int]:
    import multiprocessing

    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(abs, [-1, -2, -3])


@app.task
def handle_own_signal() -> list[str]:
    seen: list[str] = []
    previous = signal.signal(signal.SIGALRM, lambda number, _: seen.append(signal.Signals(number).name))
    try:
        signal.raise_signal(signal.SIGALRM)
    finally:
        signal.signal(signal.SIGALRM, previous)
    return seen


@app.task
def handle_termination() -> list[str]:
    """Install a handler of SIGTERM in the task, as long-running builds do."""
    seen: list[str] = []
    previous = signal.signal(signal.SIGTERM, lambda number, _: seen.append(signal.Signals(number).name))
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, previous)
    return seen


@app.task
def is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@app.task
def start_thread() -> int:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(os.getpid()))
    thread.start()
    thread.join()
    return found[0]


@app.task
def prints(text: str) -> None:
    print(text)
    print(text + " on stderr", file=sys.stderr)


@app.task
def logs(text: str) -> None:
    logger.info("info: %s", text)
    logger.warning("warning: %s", text)


@app.task
def large(size: int) -> str:
    return "x" * size


@app.task
def length(value: str) -> int:
    return len(value)


@app.task
def now_as_seen() -> datetime:
    return datetime.now()
