"""Publishes calls of tasks: routing, signals, templates for the plain case, batches."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from pyworker.identifiers import is_plain_id
from pyworker.publish.calls import PLAIN_OPTIONS, Call, Series
from pyworker.publish.messages import Clock, build
from pyworker.publish.outlets import make_outlet
from pyworker.publish.registered import json_is_kombus
from pyworker.routing import Destination, Router
from pyworker.signals import after_task_publish, before_task_publish

if TYPE_CHECKING:
    from pyworker.app import Celery
    from pyworker.publish.messages import Message
    from pyworker.publish.outlets import Outgoing, Outlet, Template
    from pyworker.task import Task

_ROUTING_OPTIONS = frozenset({"queue", "routing_key", "exchange", "priority", "delivery_mode", "time_limit",
                              "soft_time_limit", "ignore_result"})  # fmt: skip
#: What the messages of a series may have in common.
_SERIES_OPTIONS = PLAIN_OPTIONS | {"chord"}


class Encoded(NamedTuple):
    """A call ready to go, and what signals show of it."""

    #: None if it has to be published by kombu.
    outgoing: Outgoing | None
    message: Message
    destination: Destination
    retry: bool | None
    retry_policy: Mapping[str, Any] | None


class Publisher:
    """Publishes for one app. Everything derived from the settings is derived anew when they change."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._clock = Clock(app.now)
        self._lock = threading.Lock()
        self._version = -1
        self._router: Router | None = None
        self._outlet: Outlet | None = None
        self._templates: dict[str, Template | None] = {}

    @property
    def router(self) -> Router:
        """The router of the present settings."""
        self._refresh()
        if self._router is None:
            self._router = Router(self._app.conf)
        return self._router

    @property
    def outlet(self) -> Outlet:
        """The way out of the present settings.

        Raises:
            ImproperlyConfigured: ``broker_url`` is missing or not supported.
        """
        self._refresh()
        outlet = self._outlet
        if outlet is None:
            with self._lock:
                outlet = self._outlet = self._outlet or make_outlet(self._app.conf)
        return outlet

    def publish(self, call: Call) -> None:
        """Publish one call.

        Raises:
            OperationalError: the broker cannot be reached or refuses.
        """
        outlet = self.outlet
        outgoing = self._encode_plain(call)
        if outgoing is not None:
            outlet.push(outgoing)
            return
        encoded = self._encode_with_options(call)
        if encoded.outgoing is None:
            self._push_through_kombu(call, encoded)
        else:
            outlet.push(encoded.outgoing, encoded.retry, encoded.retry_policy)
        self._announce(call, encoded)

    def publish_many(self, calls: Iterable[Call | Series]) -> None:
        """Publish many calls in as few round trips as possible; nothing is sent if one of them cannot be encoded.

        Raises:
            OperationalError: the broker cannot be reached or refuses.
        """
        outlet = self.outlet
        batch: list[Outgoing] = []
        rest: list[tuple[Call, Encoded]] = []
        for call in calls:
            if isinstance(call, Series):
                self._add_series(call, batch, rest)
            else:
                self._add(call, batch, rest)
        if batch:
            outlet.push_many(batch)
        for call, encoded in rest:
            if encoded.outgoing is None:
                self._push_through_kombu(call, encoded)
            self._announce(call, encoded)

    def _add(self, call: Call, batch: list[Outgoing], rest: list[tuple[Call, Encoded]]) -> None:
        """Encode a call of a batch."""
        outgoing = self._encode_plain(call)
        if outgoing is None:
            encoded = self._encode_with_options(call)
            rest.append((call, encoded))
            outgoing = encoded.outgoing
        if outgoing is not None:
            batch.append(outgoing)

    def _add_series(self, series: Series, batch: list[Outgoing], rest: list[tuple[Call, Encoded]]) -> None:
        """Encode a series of a batch; one by one what is not plain."""
        template = self._template_of_series(series)
        if template is None:
            for position in range(len(series.ids)):
                self._add(series.call(position), batch, rest)
            return
        queue, priority = template.queue, template.priority
        made = template.messages(series.ids, series.arguments, group_index=series.first_index, **series.options)
        for position, message in enumerate(made):
            if message is None:
                self._add(series.call(position), batch, rest)
            else:
                batch.append((queue, priority, message))

    def _template_of_series(self, series: Series) -> Template | None:
        if before_task_publish.receivers or after_task_publish.receivers:
            return None
        options = series.options
        is_plain = options.keys() <= _SERIES_OPTIONS and _are_plain(
            value for name, value in options.items() if name != "chord"
        )
        return self._template(series.name, series.task) if is_plain else None

    def forget_task(self, name: str) -> None:
        """A task's attributes changed: its template is made anew."""
        self._templates.pop(name, None)

    def close(self) -> None:
        """Close idle connections."""
        if self._outlet is not None:
            self._outlet.close()

    # -- the plain case

    def _encode_plain(self, call: Call) -> Outgoing | None:
        """Fill a template; None if this call needs more."""
        name, task, task_id, args, kwargs, options, producer, connection, _ = call
        if before_task_publish.receivers or after_task_publish.receivers or producer is not None or connection:
            return None
        template = self._template(name, task)
        if template is None or not is_plain_id(task_id) or (type(args) is not tuple and type(args) is not list):
            return None
        args, kwargs = args or (), kwargs or {}
        if not options:
            return template.queue, template.priority, template.envelope(task_id, args, kwargs)
        if not options.keys() <= PLAIN_OPTIONS or not _are_plain(options.values()):
            return None
        return template.queue, template.priority, template.envelope(task_id, args, kwargs, **options)

    def _template(self, name: str, task: Task[Any, Any] | None) -> Template | None:
        try:
            template = self._templates[name]
        except KeyError:
            template = self._templates[name] = self._make_template(name, task)
        if template is not None and not template.is_current():
            template = self._templates[name] = self._make_template(name, task)
        return template

    def _make_template(self, name: str, task: Task[Any, Any] | None) -> Template | None:
        conf = self._app.conf
        router = self.router
        options = dict(task.execution_options()) if task is not None else {}
        if (
            not router.is_static
            or conf.task_protocol == 1
            or conf.task_send_sent_event
            or conf.task_compression
            or (options.keys() - _ROUTING_OPTIONS)
            or ((task.serializer if task is not None else conf.task_serializer) != "json")
            or not json_is_kombus()
        ):
            return None
        options = router.route(options, name, task=task, is_call=task is not None)
        if options.keys() - _ROUTING_OPTIONS:
            return None
        destination = router.destination(options)
        if not destination.queue:
            return None
        return self.outlet.template(
            name,
            destination,
            priority=int(options.get("priority") or 0),
            says_priority=options.get("priority", 0) is not None,
            time_limits=(options.get("time_limit"), options.get("soft_time_limit")),
            ignore_result=options.get("ignore_result"),
            repr_levels=conf.task_repr_maxlevels,
        )

    # -- every other case

    def _encode_with_options(self, call: Call) -> Encoded:
        conf = self._app.conf
        task = call.task
        options = {**(task.execution_options() if task is not None else {}), **call.options}
        route_name = options.pop("route_name", None) or call.name
        is_call = task is not None and not call.is_by_name
        options = self.router.route(options, route_name, call.args, call.kwargs, task, is_call=is_call)
        message = build(
            call.name, call.task_id, call.args, call.kwargs, options,
            clock=self._clock, repr_levels=conf.task_repr_maxlevels,
        )  # fmt: skip
        if conf.task_protocol == 1:
            # By name: few still speak it.
            message = import_module("pyworker.publish.protocol_1").protocol_1_of(
                message, options.get("headers"), is_utc=conf.enable_utc
            )
        destination = self.router.destination(options)
        retry, policy = options.get("retry"), options.get("retry_policy")
        if before_task_publish.receivers:
            before_task_publish.send(
                sender=call.name, body=message.body, exchange=destination.exchange,
                routing_key=destination.routing_key, declare=[destination.queue] if destination.queue else [],
                headers=message.headers,
                properties=message.properties, retry_policy={**conf.task_publish_retry_policy, **(policy or {})},
            )  # fmt: skip
        encoded = message._replace(
            serializer=message.serializer or conf.task_serializer,
            compression=message.compression or conf.task_compression,
        )
        is_native = destination.queue and call.producer is None and call.connection is None
        outgoing = self.outlet.wrap(encoded, destination) if is_native else None
        return Encoded(outgoing, encoded, destination, retry, policy)

    def _push_through_kombu(self, call: Call, encoded: Encoded) -> None:
        # By name: kombu is loaded when it is needed.
        through_kombu = import_module("pyworker.publish.through_kombu")
        acquired = (
            self._app.producer_or_acquire(call.producer)
            if call.connection is None or call.producer is not None
            else through_kombu.producer_of(call.connection)
        )
        with acquired as producer:
            through_kombu.publish(
                self._app.conf, producer, encoded.message, encoded.destination, encoded.retry, encoded.retry_policy
            )

    def _announce(self, call: Call, encoded: Encoded) -> None:
        if self._app.conf.task_send_sent_event:
            self._send_sent_event(call, encoded)
        if after_task_publish.receivers:
            after_task_publish.send(
                sender=call.name, body=encoded.message.body, headers=encoded.message.headers,
                exchange=encoded.destination.exchange, routing_key=encoded.destination.routing_key,
            )  # fmt: skip

    def _send_sent_event(self, call: Call, encoded: Encoded) -> None:
        conf, message, destination = self._app.conf, encoded.message, encoded.destination
        fields: dict[str, Any]
        if isinstance(message.body, dict):
            fields = import_module("pyworker.publish.protocol_1").event_fields(message.body)
        else:
            headers = message.headers
            fields = {key: headers[key] for key in ("root_id", "parent_id", "retries", "eta", "expires")}
            fields |= {"args": headers["argsrepr"], "kwargs": headers["kwargsrepr"]}
        fields |= {
            "uuid": call.task_id, "name": call.name,
            "queue": destination.queue or next((found.name for found in destination.declares), None),
            "exchange": destination.exchange, "routing_key": destination.routing_key,
        }  # fmt: skip
        with self._app.producer_or_acquire(call.producer) as producer:
            self._app.events.announce(
                "task-sent", fields, producer,
                retry=conf.task_publish_retry if encoded.retry is None else encoded.retry,
                retry_policy={**(conf.task_publish_retry_policy or {}), **(encoded.retry_policy or {})},
            )  # fmt: skip

    def _refresh(self) -> None:
        """Forget what was derived from older settings."""
        version = self._app.conf.version
        if version != self._version:
            with self._lock:
                self._router = None
                self._outlet = None
                self._templates = {}
                self._version = version


def _are_plain(values: Iterable[Any]) -> bool:
    """Whether ids among the values can stand in JSON as they are."""
    # A plain loop: it runs for every task of a batch.
    for value in values:  # noqa: SIM110
        if type(value) is str and not is_plain_id(value):
            return False
    return True
