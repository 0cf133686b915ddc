"""Write the golden files of this folder with the real celery, kombu and codecs.

Usage: python generate.py REDIS_URL   (an empty, private server; needs celery[redis], msgpack, pyyaml, brotli,
backports.zstd). ``messages.json`` holds messages as LPUSHed by stock clients with what kombu and Celery read out of
them; ``compressed.json`` what ``kombu.compression.compress`` made; ``results.json`` result metas
in every encoding.
"""

from __future__ import annotations

import base64
import json
import sys
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import redis
from celery import Celery, chain, chord, group
from celery.utils.time import maybe_iso8601, maybe_make_aware
from kombu import Connection, compression, serialization
from kombu.utils.encoding import ensure_bytes
from kombu.utils.json import loads

HERE = Path(__file__).parent


def main(url: str) -> None:
    app = Celery("golden", broker=url, backend="redis" + url[5:])
    app.conf.accept_content = ["json", "pickle", "yaml", "msgpack"]
    client = redis.Redis.from_url(url)

    @app.task(name="proj.tasks.add")
    def add(x: Any, y: Any, **extra: Any) -> Any:
        return x + y

    @app.task(name="proj.tasks.collect")
    def collect(values: Any) -> Any:
        return values

    cases: list[dict[str, Any]] = []

    def record(name: str) -> None:
        for index, raw in enumerate(drain(client)):
            cases.append({"name": f"{name}-{index}", **describe(raw)})

    moment = datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=timezone.utc)
    india = timezone(timedelta(hours=5, minutes=30))
    calls: dict[str, dict[str, Any]] = {
        "plain": {},
        "countdown": {"countdown": 60},
        "eta": {"eta": moment},
        "eta-whole-second": {"eta": moment.replace(microsecond=0)},
        "eta-naive": {"eta": moment.replace(tzinfo=None)},
        "eta-offset": {"eta": moment.astimezone(india)},
        "expires-seconds": {"expires": 120},
        "expires-date": {"expires": moment},
        "limits": {"time_limit": 30, "soft_time_limit": 25.5},
        "priority": {"priority": 7},
        "retries": {"retries": 3},
        "ignore-result": {"ignore_result": True},
        "keep-result": {"ignore_result": False},
        "shadow": {"shadow": "shown \u2713 name"},
        "headers": {"headers": {"x-trace": '\u00e9"\\\n', "nested": {"id": "not this", "task": [1, {"id": 2}]}}},
        "task-id-text": {"task_id": "caf\u00e9-\u2713-\U0001f600"},
        "task-id-uuid": {"task_id": uuid.UUID(int=0x1234)},
        "pickle": {"serializer": "pickle"},
        "yaml": {"serializer": "yaml"},
        "msgpack": {"serializer": "msgpack"},
        "link": {"link": collect.s(), "link_error": collect.s()},
        "stamped": {"stamped_headers": ["customer"], "customer": "acme"},
        "reply-to": {"reply_to": "somewhere"},
    }
    for name, options in calls.items():
        add.apply_async((2, 3), {"z": "\u00fc"}, **options)
        record(name)
    for method in ("zlib", "bzip2", "lzma", "brotli", "zstd"):
        add.apply_async(("x" * 500, 3), compression=method)
        record(f"compression-{method}")
    chain(add.s(1, 2), add.s(3), add.s(4)).apply_async()
    record("chain")
    group(add.s(i, i) for i in range(3)).apply_async()
    record("group")
    chord([add.s(i, i) for i in range(2)], collect.s()).apply_async()
    record("chord")
    app.conf.task_protocol = 1
    add.apply_async((1, 2), countdown=5)
    record("protocol1")
    app.conf.task_protocol = 2
    with Connection(url) as connection:
        producer = connection.Producer()
        producer.publish(
            b"\x00\xff\x10binary",
            routing_key="celery",
            content_type="application/octet-stream",
            content_encoding="binary",
            headers={"task": "t", "id": "i"},
        )
        record("binary")
        producer.publish("", routing_key="celery", content_type="text/plain", content_encoding="utf-8")
        record("empty")
    with Connection(url, transport_options={"body_encoding": ""}) as connection:
        connection.Producer().publish({"a": '\u00fc\n"'}, routing_key="celery", headers={"task": "t", "id": "i"})
        record("plain-body")
    write("messages.json", cases)
    write("compressed.json", compressed())
    write("results.json", results(app))


def results(app: Celery) -> list[dict[str, str]]:
    """Result metas in every encoding, with results that look like another state."""
    values: dict[str, Any] = {
        "plain": 5,
        "lookalike": {"status": "SUCCESS", "text": "a\nstatus: SUCCESS\nb"},
        "other": {"status": "FAILURE"},
    }
    variants: list[tuple[str, str, str | None, int]] = [
        (serializer, serializer, method, 4)
        for serializer in ("json", "yaml", "msgpack", "pickle")
        for method in (None, "gzip", "zstd")
    ] + [(f"pickle-{protocol}", "pickle", None, protocol) for protocol in (2, 3, 5)]
    entries = []
    for name, serializer, method, protocol in variants:
        serialization.pickle_protocol = protocol
        app.conf.result_compression = method
        backend = app.backend.__class__(app=app, serializer=serializer, url=app.conf.result_backend)
        for state in ("SUCCESS", "FAILURE", "STARTED", "RETRY"):
            for label, value in values.items():
                meta = backend._get_result_meta(result=value, state=state, traceback=None, request=None)
                encoded = ensure_bytes(backend.encode({**meta, "task_id": "id"}))
                entries.append(
                    {
                        "name": f"{name} {method} {state} {label}",
                        "state": state,
                        "value": base64.b64encode(encoded).decode(),
                    }
                )
    return entries


def drain(client: redis.Redis) -> list[bytes]:
    keys = sorted(key for key in client.keys("celery*") if client.type(key) == b"list")
    raws = [raw for key in keys for raw in reversed(client.lrange(key, 0, -1))]
    client.flushdb()
    return raws


def describe(raw: bytes) -> dict[str, Any]:
    """What kombu and Celery's Request make of a message."""
    with Connection("memory://") as connection:
        message = connection.channel().message_to_python(loads(raw.decode()))
    payload = loads(raw.decode())
    headers, properties = message.headers, message.properties
    body = payload["body"].encode()
    if properties.get("body_encoding") == "base64":
        body = base64.b64decode(body)
    hard, soft = headers.get("timelimit") or (None, None)
    ignore_result = headers.get("ignore_result")
    return {
        "raw": raw.decode(),
        "protocol": 2 if "task" in headers and "id" in headers else 1,
        "id": str(headers.get("id", "")),
        "task": headers.get("task", ""),
        "root_id": str(headers.get("root_id") or ""),
        "shadow": headers.get("shadow") or "",
        "compression": headers.get("compression") or "",
        "content_type": message.content_type or "",
        "content_encoding": message.content_encoding or "",
        "body": base64.b64encode(body).decode(),
        "eta_s": timestamp(headers.get("eta")),
        "expires_s": timestamp(headers.get("expires")),
        "hard_time_limit_s": hard,
        "soft_time_limit_s": soft,
        "retries": headers.get("retries", 0),
        "priority": properties.get("priority"),
        "ignore_result": ignore_result,
        "has_stamps": bool(headers.get("stamped_headers")),
    }


def timestamp(value: Any) -> float | None:
    return None if value is None else maybe_make_aware(maybe_iso8601(value)).timestamp()


def compressed() -> list[dict[str, str]]:
    """One entry per method and input, everything in base64."""
    inputs = [b"", b"x", b"pyworker " * 500, bytes(range(256)) * 4]
    entries = []
    for name in ("zlib", "gzip", "bzip2", "bzip", "lzma", "xz", "brotli", "zstd", "zstandard"):
        for data in inputs:
            packed, content_type = compression.compress(data, name)
            entries.append(
                {
                    "name": name,
                    "content_type": content_type,
                    "data": base64.b64encode(data).decode(),
                    "packed": base64.b64encode(packed).decode(),
                }
            )
    return entries


def write(name: str, entries: list[dict[str, Any]]) -> None:
    (HERE / name).write_text("[\n" + ",\n".join(json.dumps(entry) for entry in entries) + "\n]\n")


if __name__ == "__main__":
    main(sys.argv[1])
