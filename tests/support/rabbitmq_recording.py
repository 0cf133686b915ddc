"""What is published to a virtual host of RabbitMQ: the server's own trace of it."""

from __future__ import annotations

import json
import threading
import uuid
from typing import Any

import kombu

from support.recording import Recorder
from support.waiting import eventually

#: Where the server repeats whatever is published, once tracing is on.
_TRACE = "amq.rabbitmq.trace"
#: The recorder's own messages, which no queue takes.
_MARKS = "amq.fanout"
#: How long the recorder's thread waits before it looks whether it has to end.
_LOOK_S = 0.2


class RabbitmqRecorder(Recorder):
    """Consumes the trace of a virtual host; tracing has to be on (``RabbitmqHost.trace``)."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._marks: set[str] = set()
        self._stopping = threading.Event()
        self._listening = kombu.Connection(url)
        channel = self._listening.channel()
        queue = kombu.Queue("", kombu.Exchange(_TRACE, type="topic", passive=True), "publish.#", exclusive=True)
        consumer = kombu.Consumer(channel, [queue], no_ack=True, on_message=self._keep)
        consumer.consume()
        self._marking = kombu.Connection(url)
        self._marker = self._marking.Producer()
        self._thread = threading.Thread(target=self._read, name="recorder", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._stopping.set()
        self._thread.join()
        self._listening.close()
        self._marking.close()

    def _read(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listening.drain_events(timeout=_LOOK_S)
            except TimeoutError:
                continue

    def _keep(self, traced: Any) -> None:
        exchange, properties = traced.headers["exchange_name"], dict(traced.headers["properties"])
        if exchange == _MARKS:
            self._marks.add(properties["correlation_id"])
            return
        headers = properties.pop("headers", {})
        if "task" in headers:
            self.keep(
                {
                    "body": json.loads(bytes(traced.body)),
                    "content-type": properties.pop("content_type"),
                    "content-encoding": properties.pop("content_encoding"),
                    "headers": headers,
                    "properties": {**properties, "delivery_tag": ""},
                    "key": [exchange, *traced.headers["routing_keys"]],
                }
            )

    def settle(self) -> None:
        """Wait until a message published now has been traced."""
        mark = str(uuid.uuid4())
        self._marker.publish("", exchange=_MARKS, routing_key="", correlation_id=mark)
        eventually(lambda: mark in self._marks, what="the recorder has caught up")
