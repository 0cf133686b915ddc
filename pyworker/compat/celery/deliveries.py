"""What the parent does about deliveries that the engine shows it: Celery's own code decides, the verdict is caught.

Messages that never became a job (unknown task, bad envelope, protocol 1, parent lane) go through the consumer's own
handler. Jobs that ended without their child (lost, timed out, terminated, rejected) become a real request whose own
``on_failure``, ``on_timeout`` or announcement is called.
"""

from __future__ import annotations

import inspect
import signal
from typing import TYPE_CHECKING, Any

from billiard.common import human_status
from billiard.einfo import ExceptionInfo
from celery import signals
from celery.exceptions import Reject, TimeLimitExceeded, WorkerLostError
from celery.utils.log import get_logger
from celery.worker import state
from celery.worker.consumer.consumer import TERMINATING_TASK_ON_RESTART_AFTER_A_CONNECTION_LOSS

from pyworker.compat.celery import rewriting
from pyworker.compat.celery.held_requests import HeldRequests
from pyworker.compat.celery.job_reports import read_report
from pyworker.worker.protocol import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from kombu.message import Message

    from pyworker._native import Engine, Notice
    from pyworker.compat.celery.calls import CallDesk
    from pyworker.compat.celery.request_facade import Requests

logger = get_logger("celery.worker.request")
consumer_logger = get_logger("celery.worker.consumer.consumer")


class Deliveries:
    """Answers the engine's delivery notices; used by the parent's main thread.

    Args:
        consumer: the consumer facade.
        requests: builds messages and requests.
        books: guards Celery's books of requests, which remote control fills and reads.
        is_stopping_cold: whether running tasks are being cancelled by a cold shutdown.
        calls: keeps what a strategy keeps.
    """

    def __init__(
        self,
        consumer: Any,
        requests: Requests,
        books: AbstractContextManager[Any],
        is_stopping_cold: Callable[[], bool],
        calls: CallDesk,
    ) -> None:
        self._calls = calls
        self._consumer = consumer
        self._requests = requests
        self._books = books
        self._is_stopping_cold = is_stopping_cold
        self._handed_over: list[Any] = []
        self._held = HeldRequests()
        #: Deliveries released once already: what the engine shows again, it does not want to run.
        self._released: set[int] = set()
        self._on_task: Callable[[Message], Any] | None = None
        self.engine: Engine | None = None
        #: Task ids that a remote control command terminated: they end as revoked, not as cancelled.
        self.terminated_by_command: set[str] = set()
        #: Task ids that were ended because the broker connection was lost.
        self._cancelled_by_loss: set[str] = set()
        self._jobs = {
            "expired": self._discarded,
            "revoked": self._discarded,
            "lost": self._lost,
            "hard_timeout": self._hard_timeout,
            "terminated": self._terminated,
            "rejected": self._rejected,
            "too_many_deliveries": self._too_many_deliveries,
            "ended": self._ended,
        }
        #: What a request is told while its job still runs.
        self._informing = {"accepted": self._accepted, "soft_timeout": self._soft_timeout}

    def cancel_unacknowledged(self) -> None:
        """End the running tasks whose messages are not acknowledged: they will be delivered again."""
        assert self.engine is not None
        tasks = self._consumer.app.tasks
        for job in self.engine.jobs("active"):
            task = tasks.get(job.task_name)
            if task is None or not task.acks_late:
                continue
            consumer_logger.warning(
                TERMINATING_TASK_ON_RESTART_AFTER_A_CONNECTION_LOSS, f"{job.task_name}[{job.task_id}]"
            )
            self._cancelled_by_loss.add(job.task_id)
            if not self.engine.terminate([job.task_id], signal=int(signal.SIGTERM)):
                self._cancelled_by_loss.discard(job.task_id)

    def hand_over(self, request: Any) -> None:
        """Take a request that a strategy hands to the pool."""
        self._handed_over.append(request)

    def resolve(self, notice: Notice) -> Verdict:
        """Do what Celery does about a delivery and return how it ends."""
        with self._books:
            return self._resolve(notice)

    def _resolve(self, notice: Notice) -> Verdict:
        if self._calls.owns(notice):
            return self._calls.on_notice(notice)
        message = self._requests.message(notice)
        request = self._held.find(notice, message) if notice.reason != "parent_lane" else None
        message = message if request is None else request.message
        try:
            if notice.reason in self._informing:
                self._informing[notice.reason](self._request(notice, message, request), notice)
                return Verdict.ACK
            work = self._jobs.get(notice.reason)
            if work is None or notice.task_name not in self._consumer.app.tasks:
                return self._consume(notice, message)
            verdict = work(self._request(notice, message, request), notice)
            # Celery before 5.6 queues acknowledgements instead of making them.
            self._consumer.perform_pending_operations()
        except Exception:
            # A receiver, a hook or the result store failed; the worker outlives it and the message keeps its rule.
            logger.exception("Error on handling %s[%s] (%s)", notice.task_name, notice.task_id, notice.reason)
            verdict = None
        return verdict or message.channel.verdict or self._default(notice)

    # -- messages that are not jobs

    def _consume(self, notice: Notice, message: Message) -> Verdict:
        consumer = self._consumer
        if self._on_task is None:
            self._on_task = consumer.create_task_handler()
        self._handed_over.clear()
        if message.errors:
            message._reraise_error(consumer.on_decode_error)
        elif notice.raw:
            # Not even an envelope: there are no headers to judge it by.
            consumer.on_unknown_message(None, message)
        else:
            self._offer(notice, message)
        # Celery before 5.6 queues acknowledgements instead of making them.
        consumer.perform_pending_operations()
        if self._handed_over:
            return self._dispatch(notice, message, self._handed_over.pop())
        verdict: Verdict | None = message.channel.verdict
        if verdict is None:
            # Its strategy keeps it, for a batch perhaps, and settles it later.
            return self._calls.hold(notice, message.channel)
        return verdict

    def _offer(self, notice: Notice, message: Message) -> None:
        assert self._on_task is not None
        self._consumer.event_dispatcher.is_receipt_sent = notice.reason == "parent_lane"
        try:
            self._on_task(message)
        except Exception as error:
            self._consumer.on_invalid_task(None, message, error)
            return
        if notice.reason == "undecodable" and self._handed_over and not is_old_protocol(self._handed_over[-1]):
            # The child could not read what reads well here; offering it again would never end.
            self._handed_over.clear()
            self._consumer.on_invalid_task(None, message, ValueError(notice.text))

    def _dispatch(self, notice: Notice, message: Message, request: Any) -> Verdict:
        forget(request)
        self._held.keep(message, request)
        if is_old_protocol(request) or notice.reason == "invalid_task":
            assert self.engine is not None
            rewriting.rewrite(self.engine, notice.handle, request, message)
        return Verdict.DISPATCH

    # -- jobs

    def _request(self, notice: Notice, message: Message, held: Any) -> Any:
        """Return the request that was held since the receipt, or one that looks like it."""
        request = self._requests.build(notice, message) if held is None else held
        if notice.pid:
            request.worker_pid = notice.pid
        return request

    def _accepted(self, request: Any, notice: Notice) -> None:
        counted = state.total_count.copy(), list(state.all_total_count)
        request.on_accepted(notice.pid, notice.seconds)
        # The engine keeps these books.
        forget(request)
        state.total_count.clear()
        state.total_count.update(counted[0])
        state.all_total_count[:] = counted[1]

    def _ended(self, request: Any, notice: Notice) -> None:
        report = read_report(notice.text)
        if report.escaped:
            request.on_failure(report.value)
        else:
            request.on_success((report.failed, report.value, report.runtime_s))

    def _discarded(self, request: Any, notice: Notice) -> Verdict | None:
        if notice.handle in self._released:
            self._released.discard(notice.handle)
            state.revoked.add(request.id)
        if request.revoked():
            return None
        # Celery's own rule decides: its set was cleared or has forgotten the id, so the task runs.
        self._released.add(notice.handle)
        self._held.keep(request.message, request)
        return Verdict.DISPATCH

    def _started(self, request: Any) -> Any:
        if not request.task.acks_late:
            request.acknowledged = True
        return request

    def _lost(self, request: Any, notice: Notice) -> Verdict | None:
        if self._is_stopping_cold() and notice.status < 0:
            return self._cancelled(self._started(request))
        text = f"Worker exited prematurely: {human_status(notice.status)} Job: {self._job_number()}."
        self._started(request).on_failure(raised(WorkerLostError(text)))
        return None

    def _job_number(self) -> int:
        """Return what stands for the pool's number of the job: how many had started by now."""
        assert self.engine is not None
        return max(self.engine.counters().get("started", 0) - 1, 0)

    def _cancelled(self, request: Any) -> Verdict | None:
        announce_cancelled(request)
        # Upstream leaves it unacknowledged, and closing its channel puts it back into the queue.
        return Verdict.REQUEUE if request.task.acks_late else None

    def _too_many_deliveries(self, request: Any, notice: Notice) -> Verdict:
        text = notice.text or "Message was delivered too often without finishing."
        # Not the request's own on_failure: it would requeue what the task wants back after a lost worker.
        record_failure(request, raised(WorkerLostError(text)))
        return Verdict.REJECT

    def _soft_timeout(self, request: Any, notice: Notice) -> None:
        request.on_timeout(True, self._limit(request, notice.seconds, is_soft=True))

    def _hard_timeout(self, request: Any, notice: Notice) -> None:
        request = self._started(request)
        limit = self._limit(request, notice.seconds, is_soft=False)
        # Both, as upstream: the pool fails the job, then tells its timeout.
        request.on_failure(raised(TimeLimitExceeded(limit)))
        request.on_timeout(False, limit)

    def _limit(self, request: Any, seconds: float, *, is_soft: bool) -> float | int:
        """Return the limit as it was configured: ``10`` and ``10.0`` print differently."""
        hard, soft = (*request.time_limits, None, None)[:2]
        controller = self._consumer.controller
        if is_soft:
            candidates = (soft, request.task.soft_time_limit, controller.soft_time_limit)
        else:
            candidates = (hard, request.task.time_limit, controller.time_limit)
        return next((limit for limit in candidates if limit is not None and limit == seconds), seconds)

    def _terminated(self, request: Any, notice: Notice) -> Verdict | None:
        request = self._started(request)
        if self._is_stopping_cold() and notice.task_id not in self.terminated_by_command:
            return self._cancelled(request)
        if notice.task_id in self._cancelled_by_loss:
            self._cancelled_by_loss.discard(notice.task_id)
            announce_cancelled(request, emits_retry=True)
            return Verdict.REQUEUE
        self.terminated_by_command.discard(notice.task_id)
        request._announce_revoked("terminated", True, _signal(notice.status), False)
        return None

    def _rejected(self, request: Any, notice: Notice) -> None:
        request = self._started(request)
        # The child sends the exception's repr; ``None`` is how it prints a missing reason.
        reason = notice.text.partition("reject requeue=")[2].partition(": ")[2] or notice.text
        error = Reject(None if reason in ("", "None") else reason, requeue=notice.requeue)
        request.on_failure(raised(error), return_ok=True)

    def _default(self, notice: Notice) -> Verdict:
        task = self._consumer.app.tasks.get(notice.task_name)
        if task is not None and task.acks_late and notice.reason in {"lost", "terminated", "ended"}:
            return Verdict.ABANDON
        return Verdict.REJECT if notice.reason in {"malformed", "undecodable", "unknown_task"} else Verdict.ACK


def raised(error: BaseException) -> ExceptionInfo:
    """Return the exception with a traceback, as the pool hands it to a request."""
    try:
        raise error
    except BaseException:
        info = ExceptionInfo()
        # The pool sends it through a pipe, which takes billiard's wrapper off.
        info.exception = error
        return info


def record_failure(request: Any, einfo: ExceptionInfo) -> None:
    """Fail a task for good: result, errbacks and chord, ``task_failure``, the log line."""
    task, error = request.task, einfo.exception
    error = getattr(error, "exc", error)
    context = request._context
    task.backend.mark_as_failure(request.id, error, request=context, store_result=request.store_errors)
    task.request_stack.push(context)
    try:
        signals.task_failure.send(
            sender=task,
            task_id=request.id,
            exception=error,
            args=request.args,
            kwargs=request.kwargs,
            traceback=einfo.traceback,
            einfo=einfo,
        )
    finally:
        task.request_stack.pop()
    logger.error("Task handler raised error: %r", error, exc_info=einfo.exc_info)


def is_old_protocol(request: Any) -> bool:
    """Whether Celery converted the request from protocol 1, which it does with the body decoded."""
    return request.content_type is None


def announce_cancelled(request: Any, *, emits_retry: bool | None = None) -> None:
    """Tell that a task was cancelled; by a cold shutdown late acknowledged ones are redelivered and stay silent."""
    if "emit_retry" in inspect.signature(request._announce_cancelled).parameters:
        request._announce_cancelled(emit_retry=not request.task.acks_late if emits_retry is None else emits_retry)
    else:
        request._announce_cancelled()


def forget(request: Any) -> None:
    """Take a request out of Celery's books: the engine keeps them, and nothing would remove it there."""
    state.requests.pop(request.id, None)
    state.active_requests.discard(request)
    state.reserved_requests.discard(request)
    getattr(state, "scheduled_requests", state.reserved_requests).discard(request)


def _signal(number: int) -> int:
    try:
        return signal.Signals(abs(number))
    except ValueError:
        return number
