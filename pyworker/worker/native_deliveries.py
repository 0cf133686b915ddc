"""What the parent does about deliveries of our own app that the engine shows it."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kombu.exceptions import ContentDisallowed

from pyworker import states
from pyworker.exceptions import (
    InvalidTaskError,
    NotRegistered,
    Reject,
    Retry,
    TaskRevokedError,
    TimeLimitExceeded,
    WorkerLostError,
)
from pyworker.followups import record_failure
from pyworker.request import Context
from pyworker.signals import task_failure, task_rejected, task_retry, task_revoked, task_unknown
from pyworker.worker.bodies import BodyDecoder
from pyworker.worker.exception_info import ExceptionInfo, describe
from pyworker.worker.notices import human_status
from pyworker.worker.protocol import Verdict
from pyworker.worker.protocol_1 import protocol_2_of

if TYPE_CHECKING:
    from pyworker._native import Engine, Notice
    from pyworker.app import Celery
    from pyworker.task import Task
    from pyworker.worker.event_stream import EventStream
    from pyworker.worker.revoked_ids import RevokedIds

#: Celery's loggers: people filter by them.
logger = logging.getLogger("celery.worker.request")
consumer_logger = logging.getLogger("celery.worker.consumer.consumer")

_SHOWN_BYTES = 2048
_UNKNOWN_MESSAGE = """\
Received and deleted unknown message.  Wrong destination?!?

The full contents of the message body was: %s
"""
_UNKNOWN_TASK = """\
Received unregistered task of type %s.
The message has been ignored and discarded.

Did you remember to import the module containing this task?
Or maybe you're using relative imports?

The full contents of the message body was:
%s

The full contents of the message headers:
%s

The delivery info for this task is:
%s
"""
_INVALID_TASK = """\
Received invalid task message: %s
The message has been ignored and discarded.

Please ensure your message conforms to the task message protocol.

The full contents of the message body was:
%s
"""
_UNDECODABLE = "Can't decode message body: %r [type:%r encoding:%r headers:%s]\n\nbody: %s\n"


class NativeDeliveries:
    """Answers the engine's delivery notices; used by the parent's main thread."""

    def __init__(self, app: Celery, hostname: str) -> None:
        self._app = app
        self._hostname = hostname
        self._decode = BodyDecoder(app.conf.accept_content)
        self._answers: dict[str, Callable[[Notice], Verdict]] = {
            "unknown_task": self._unknown_task,
            "malformed": self._malformed,
            "invalid_task": self._invalid,
            "undecodable": self._undecodable,
            "protocol1": self._protocol_1,
            "expired": self._revoked,
            "revoked": self._revoked,
            "terminated": self._terminated,
            "lost": self._lost,
            "soft_timeout": self._soft_timeout,
            "hard_timeout": self._hard_timeout,
            "rejected": self._rejected,
            "too_many_deliveries": self._too_many_deliveries,
        }
        self.engine: Engine | None = None
        #: Set while a cold shutdown cancels what runs.
        self.is_stopping_cold = False
        #: Ids that remote control terminated: they end as revoked.
        self.terminated_by_command: set[str] = set()
        #: Ids that were ended because the broker connection was lost.
        self._cancelled_by_loss: set[str] = set()
        #: Revoked ids, kept with remote control.
        self.revoked: RevokedIds | None = None
        #: Revoked stamps by header, shared with remote control.
        self.revoked_stamps: dict[str, list[str]] = {}
        #: Tells the events that only the parent knows of.
        self.events: EventStream | None = None

    def cancel_unacknowledged(self) -> None:
        """End the running tasks whose messages are not acknowledged: they will be delivered again."""
        assert self.engine is not None
        for job in self.engine.jobs("active"):
            task = self._task(job)
            if task is None or not task.acks_late:
                continue
            consumer_logger.warning("Task %s[%s] is ended: the connection was lost", job.task_name, job.task_id)
            self._cancelled_by_loss.add(job.task_id)
            if not self.engine.terminate([job.task_id], signal=int(signal.SIGTERM)):
                self._cancelled_by_loss.discard(job.task_id)

    def _tell(self, kind: str, notice: Notice, **members: Any) -> None:
        task = self._task(notice)
        if self.events is not None and getattr(task, "send_events", True):
            self.events.send_task_event(kind, notice.task_id, **members)

    def resolve(self, notice: Notice) -> Verdict:
        """Do what has to be done about a delivery and return how it ends."""
        answer = self._answers.get(notice.reason)
        if answer is None:
            logger.error("Task %s[%s]: no rule for %r", notice.task_name, notice.task_id, notice.reason)
            return Verdict.REJECT
        return answer(notice)

    # -- messages that never became jobs

    def _unknown_task(self, notice: Notice) -> Verdict:
        headers = _object(notice.headers)
        consumer_logger.error(
            _UNKNOWN_TASK, repr(notice.task_name), _shown(notice), headers,
            _object(notice.properties).get("delivery_info"), exc_info=False,
        )  # fmt: skip
        error = NotRegistered(notice.task_name)
        request = self._request(notice)
        record_failure(self._app, notice.task_id, error, None, request, stores=not headers.get("ignore_result"))
        task_unknown.send(sender=self, message=notice, exc=error, name=notice.task_name, id=notice.task_id)
        return Verdict.REJECT

    def _malformed(self, notice: Notice) -> Verdict:
        consumer_logger.warning(_UNKNOWN_MESSAGE, _cut(notice.raw or notice.body))
        task_rejected.send(sender=self, message=notice, exc=None)
        return Verdict.REJECT

    def _invalid(self, notice: Notice, error: Exception | None = None) -> Verdict:
        error = error or InvalidTaskError(notice.text)
        consumer_logger.error(_INVALID_TASK, error, _shown(notice))
        task_rejected.send(sender=self, message=notice, exc=error)
        return Verdict.REJECT

    def _undecodable(self, notice: Notice) -> Verdict:
        try:
            self._payload(notice)
        except ContentDisallowed as error:
            return self._invalid(notice, error)
        except Exception as error:
            consumer_logger.critical(
                _UNDECODABLE, error, notice.content_type, notice.content_encoding, _object(notice.headers),
                _shown(notice), exc_info=True,
            )  # fmt: skip
            return Verdict.ACK
        return self._invalid(notice, ValueError(notice.text))

    def _protocol_1(self, notice: Notice) -> Verdict:
        try:
            fields = self._payload(notice)
            parts = protocol_2_of(fields, self._app.timezone)
        except Exception as error:
            return self._invalid(notice, error)
        assert self.engine is not None
        headers, body = (json.dumps(part).encode() for part in parts)
        self.engine.replace(
            notice.handle, headers, notice.properties, body, "application/json", "utf-8", fields["id"], fields["task"]
        )
        return Verdict.DISPATCH

    # -- jobs

    def _revoked(self, notice: Notice) -> Verdict:
        if notice.reason == "revoked" and not self._is_revoked(notice):
            return Verdict.DISPATCH
        logger.info("Discarding revoked task: %s[%s]", notice.task_name, notice.task_id)
        is_expired = notice.reason == "expired"
        self._announce_revoked(notice, notice.reason, terminated=False, signum=None, expired=is_expired)
        return Verdict.ACK

    def _terminated(self, notice: Notice) -> Verdict:
        task = self._task(notice)
        if self.is_stopping_cold and notice.task_id not in self.terminated_by_command:
            return Verdict.ABANDON if task is not None and task.acks_late else Verdict.ACK
        if notice.task_id in self._cancelled_by_loss:
            self._cancelled_by_loss.discard(notice.task_id)
            return Verdict.REQUEUE
        self.terminated_by_command.discard(notice.task_id)
        self._announce_revoked(notice, "terminated", terminated=True, signum=_signal(notice.status), expired=False)
        return Verdict.ACK

    def _is_revoked(self, notice: Notice) -> bool:
        """Whether the id or a stamp is revoked: the engine shows every stamped task once stamps are revoked."""
        if self.revoked is None or notice.task_id in self.revoked:
            return True
        stamps = _object(notice.headers).get("stamps") or {}
        for header, values in self.revoked_stamps.items():
            carried = stamps.get(header) or ()
            if set([carried] if isinstance(carried, str) else carried) & set(values):
                return True
        return False

    def _announce_revoked(self, notice: Notice, reason: str, *, terminated: bool, signum: Any, expired: bool) -> None:
        request, task = self._request(notice), self._task(notice)
        self._tell("task-revoked", notice, terminated=terminated, signum=signum, expired=expired)
        stores = task is None or not self._ignores(task, request) or bool(task.store_errors_even_if_ignored)
        record_failure(
            self._app, notice.task_id, TaskRevokedError(reason), None, request,
            stores=stores, state=states.REVOKED, calls_errbacks=False,
        )  # fmt: skip
        task_revoked.send(sender=task, request=request, terminated=terminated, signum=signum, expired=expired)

    def _lost(self, notice: Notice) -> Verdict:
        text = f"Worker exited prematurely: {human_status(notice.status)} Job: {notice.handle}."
        task = self._task(notice)
        if task is not None and task.retry_on_worker_lost and self._retry(task, notice, WorkerLostError(text)):
            return Verdict.ACK
        if task is not None and task.acks_late and task.reject_on_worker_lost:
            logger.error("Task handler raised error: %r", WorkerLostError(text))
            return Verdict.REQUEUE
        self._fail(notice, WorkerLostError(text))
        return Verdict.ACK

    def _retry(self, task: Task[Any, Any], notice: Notice, error: Exception) -> bool:
        """Send a task again whose child died; returns whether that was allowed and worked."""
        request = self._request(notice)
        if task.max_retries is not None and request.retries >= task.max_retries:
            return False
        delay_s = task.default_retry_delay
        again = task.signature_from_request(request, countdown=delay_s, retries=request.retries + 1)
        try:
            again.apply_async()
            if not self._ignores(task, request):
                self._app.backend.store_result(notice.task_id, error, states.RETRY, request=request)
        except Exception:
            logger.exception("Task %s[%s] could not be sent again", notice.task_name, notice.task_id)
            return False
        reason = Retry(exc=error, when=delay_s, sig=again)
        task_retry.send(sender=task, request=request, reason=reason, einfo=ExceptionInfo(error))
        logger.warning("Task %s[%s] retry: %s", notice.task_name, notice.task_id, reason)
        return True

    def _too_many_deliveries(self, notice: Notice) -> Verdict:
        text = notice.text or "Message was delivered too often without finishing."
        self._fail(notice, WorkerLostError(text))
        return Verdict.REJECT

    def _soft_timeout(self, notice: Notice) -> Verdict:
        logger.warning("Soft time limit (%ss) exceeded for %s[%s]", _limit(notice), notice.task_name, notice.task_id)
        return Verdict.ACK

    def _hard_timeout(self, notice: Notice) -> Verdict:
        limit = _limit(notice)
        self._fail(notice, TimeLimitExceeded(limit))
        logger.error("Hard time limit (%ss) exceeded for %s[%s]", limit, notice.task_name, notice.task_id)
        task = self._task(notice)
        if task is not None and task.acks_late and not task.acks_on_timeout:
            return Verdict.REQUEUE
        return Verdict.ACK

    def _rejected(self, notice: Notice) -> Verdict:
        task = self._task(notice)
        if notice.requeue:
            self._tell("task-rejected", notice, requeue=True)
            return Verdict.REQUEUE if task is not None and task.acks_late else Verdict.ACK
        reason = notice.text.partition("reject requeue=")[2].partition(": ")[2] or notice.text or None
        self._fail(notice, Reject(reason, requeue=False), logs=False)
        self._tell("task-rejected", notice, requeue=False)
        return Verdict.REJECT

    def _fail(self, notice: Notice, error: Exception, *, logs: bool = True) -> None:
        request, task = self._request(notice), self._task(notice)
        try:
            raise error
        except Exception as raised:
            einfo = ExceptionInfo(raised)
        stores = task is None or not self._ignores(task, request) or bool(task.store_errors_even_if_ignored)
        record_failure(self._app, notice.task_id, error, None, request, stores=stores)
        task_failure.send(
            sender=task, task_id=notice.task_id, exception=error, args=request.args, kwargs=request.kwargs,
            traceback=einfo.traceback, einfo=einfo,
        )  # fmt: skip
        self._tell("task-failed", notice, exception=describe(error), traceback=einfo.traceback)
        if logs:
            logger.error("Task handler raised error: %r", error, exc_info=einfo.exc_info)

    # -- parts

    def _task(self, notice: Notice) -> Task[Any, Any] | None:
        return self._app.tasks.get(notice.task_name)

    @staticmethod
    def _ignores(task: Task[Any, Any], request: Context) -> bool:
        given = vars(request).get("ignore_result")
        return bool(task.ignore_result if given is None else given)

    def _request(self, notice: Notice) -> Context:
        """Build the request; what cannot be decoded is left out."""
        fields = _object(notice.headers)
        properties = _object(notice.properties)
        args: Any = ()
        kwargs: Any = {}
        try:
            args, kwargs, embedded = self._payload(notice)
            fields.update(embedded or {})
        except Exception:
            pass  # shown by the headers' own texts
        fields.update(
            id=notice.task_id, task=notice.task_name, args=args, kwargs=kwargs, called_directly=False,
            hostname=self._hostname, properties=properties, reply_to=properties.get("reply_to"),
            correlation_id=properties.get("correlation_id"), delivery_info=properties.get("delivery_info") or {},
        )  # fmt: skip
        return Context(fields)

    def request_of(self, notice: Notice) -> Context:
        """Return the request of a message as receivers of signals get it."""
        request = self._request(notice)
        request.update(name=notice.task_name, task_name=notice.task_name, task_id=notice.task_id)
        return request

    def _payload(self, notice: Notice) -> Any:
        return self._decode(notice.body, _object(notice.headers), notice.content_type, notice.content_encoding)


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data) if data else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _cut(data: bytes) -> str:
    text = repr(data[:_SHOWN_BYTES])
    return f"{text}... ({len(data)}b)" if len(data) > _SHOWN_BYTES else f"{text} ({len(data)}b)"


def _shown(notice: Notice) -> str:
    return _cut(notice.body)


def _limit(notice: Notice) -> float | int:
    return int(notice.seconds) if notice.seconds == int(notice.seconds) else notice.seconds


def _signal(number: int) -> int:
    try:
        return signal.Signals(abs(number))
    except ValueError:
        return number
