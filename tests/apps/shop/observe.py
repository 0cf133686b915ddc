"""Sentry and OpenTelemetry as applications set them up, writing what they would send to a file."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import sentry_sdk
from celery import signals
from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from sentry_sdk.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentry_sdk.envelope import Envelope

_SIGNALS = "task_prerun task_postrun task_success task_failure task_retry task_received task_revoked"


def write_line(kind: str, **entry: Any) -> None:
    """Append one line to the observations; short enough to be atomic."""
    line = json.dumps({"kind": kind, "process": os.getpid(), **entry}, default=repr) + "\n"
    descriptor = os.open(os.environ["TEST_OBSERVATIONS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


class FileExporter(SpanExporter):
    """Writes finished spans."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            context = span.get_span_context()
            write_line(
                "span",
                name=span.name,
                span_kind=span.kind.name,
                status=span.status.status_code.name,
                attributes=dict(span.attributes or {}),
                events=[event.name for event in span.events],
                trace=f"{context.trace_id:x}" if context else "",
                has_parent=span.parent is not None,
            )
        return SpanExportResult.SUCCESS


class FileTransport(Transport):
    """Writes envelopes."""

    def capture_envelope(self, envelope: Envelope) -> None:
        for item in envelope.items:
            payload = item.payload.json or {}
            if item.type == "transaction":
                write_line(
                    "transaction",
                    name=payload["transaction"],
                    status=payload["contexts"]["trace"].get("status"),
                    operation=payload["contexts"]["trace"]["op"],
                    tags=sorted(payload.get("tags") or {}),
                    spans=sorted(span["op"] for span in payload["spans"]),
                )
            elif item.type == "event":
                exceptions = payload.get("exception", {}).get("values", [])
                write_line(
                    "error",
                    exceptions=[[value["type"], value["value"]] for value in exceptions],
                    mechanism=[value.get("mechanism", {}).get("type") for value in exceptions],
                    transaction=payload.get("transaction"),
                    extra=sorted(payload.get("extra", {})),
                    tags=sorted(payload.get("tags") or {}),
                )


def _start_tracing(**_: Any) -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(FileExporter()))
    trace.set_tracer_provider(provider)
    CeleryInstrumentor().instrument()


def observe() -> None:
    """Start observing this process; worker children start their tracing when they are initialised."""
    sentry_sdk.init(
        dsn="http://key@127.0.0.1:1/1", transport=FileTransport, traces_sample_rate=1.0, auto_session_tracking=False
    )
    if os.environ.get("TEST_LANE") == "producer":
        _start_tracing()
        return
    signals.worker_process_init.connect(_start_tracing, weak=False)
    for name in _SIGNALS.split():

        def receive(sender: Any = None, name: str = name, **arguments: Any) -> None:
            arguments.pop("signal")
            write_line(
                "signal", name=name, sender=getattr(sender, "name", type(sender).__name__), keys=sorted(arguments)
            )

        getattr(signals, name).connect(receive, weak=False)
