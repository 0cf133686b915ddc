"""What settings do here that do not do what the reference says: without effect, or refused, each with the reason.

A worker warns of the first and refuses the second; docs/settings.md lists both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyworker.conf_defaults import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyworker.conf import Settings

_NO_SCHEDULER = "pyworker has no scheduler yet"
_NO_UNLOCKING = "every store here counts the parts of chords; nobody asks again and again"
_COUNTED_CREDIT = "the engine counts what it hands to the pool"

#: Settings that change nothing, and why.
WITHOUT_EFFECT: dict[str, str] = {
    **dict.fromkeys((name for name in BY_NAME if name.startswith("beat_")), _NO_SCHEDULER),
    "broker_channel_error_retry": "the engine connects again after errors of every kind",
    "broker_heartbeat_checkrate": "heartbeats have a timer of their own, twice per interval",
    "result_cache_max": "a result object keeps the final state that it has seen; there is no cache beside it",
    **dict.fromkeys(("result_exchange", "result_exchange_type"), "results go to the caller's own queue by its name"),
    "result_chord_retry_interval": _NO_UNLOCKING,
    "worker_detect_quorum_queues": "consumers never share a prefetch count, so quorum queues need no detection",
    "worker_lost_wait": "the kernel tells at once how a child ended",
    "worker_pool_putlocks": _COUNTED_CREDIT,
    "worker_timer_precision": "the engine's timers wake when something is due, not at intervals",
}

#: Result stores that are not here yet, by what the names of their settings begin with.
_STORES = {
    "arangodb_": "arangodb://", "azureblockblob_": "azureblockblob://", "cache_": "cache+memcached://",
    "cassandra_": "cassandra://", "cosmosdbsql_": "cosmosdbsql://", "couchbase_": "couchbase://",
    "database_": "db+...://", "elasticsearch_": "elasticsearch://", "gcs_": "gs://", "mongodb_": "mongodb://",
    "s3_": "s3://",
}  # fmt: skip
WITHOUT_EFFECT.update(
    (name, f"the result store {scheme} is not here yet, and refused")
    for start, scheme in _STORES.items()
    for name in BY_NAME
    if name.startswith(start)
)

#: Settings that a worker refuses unless they have their default, and why.
REFUSED: dict[str, str] = {
    "worker_agent": "there are no agents; what they did is done by a process manager",
    "worker_consumer": "the consumer is native, not a class",
    "worker_timer": "timers are native, not a class",
    "worker_pool_start_method": "children are forked by a server that has no threads; use fork",
    "result_failure_expires": "a store here keeps failures as long as other results",
}


def without_effect(conf: Settings) -> Iterator[tuple[str, str]]:
    """Yield the settings among these that change nothing, with the reason; those at their default are left out."""
    return ((name, WITHOUT_EFFECT[name]) for name in sorted(WITHOUT_EFFECT) if is_changed(conf, name))


def refused(conf: Settings) -> Iterator[tuple[str, str]]:
    """Yield the settings among these that a worker refuses, with the reason."""
    return ((name, reason) for name, reason in REFUSED.items() if is_changed(conf, name))


def is_changed(conf: Settings, name: str) -> bool:
    """Whether a setting has another value than its default."""
    value = conf.get(name)
    return value is not None and value != BY_NAME[name].default
