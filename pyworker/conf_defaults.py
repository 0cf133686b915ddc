"""Every setting of the configuration reference: name, kind, default, old names, and what a wrong name may mean."""

from __future__ import annotations

import warnings
from datetime import timedelta
from typing import Any, NamedTuple

from pyworker.exceptions import PyworkerWarning


class Setting(NamedTuple):
    """One setting.

    ``kind`` is what a value has to be: a type's name, ``names`` (one text or several), ``seconds`` (a number or a
    ``timedelta``), ``rate`` (``10``, ``"10/m"``), ``zone`` (a time zone or its name), ``any`` if it is free. None is
    always allowed.
    """

    name: str
    kind: str
    default: Any
    old_names: tuple[str, ...] = ()


_ONE_DAY = timedelta(days=1)
_PUBLISH_RETRY = {"max_retries": 3, "interval_start": 0, "interval_max": 1, "interval_step": 0.2}

#: In the order of the reference.
SETTINGS: tuple[Setting, ...] = (
    Setting("accept_content", "names", ("json",), ("CELERY_ACCEPT_CONTENT",)),
    Setting("result_accept_content", "names", None),
    Setting("enable_utc", "bool", True),
    Setting("imports", "names", (), ("CELERY_IMPORTS",)),
    Setting("include", "names", (), ("CELERY_INCLUDE",)),
    Setting("timezone", "zone", None, ("CELERY_TIMEZONE",)),
    Setting("beat_enable_remote_control", "bool", False, ("CELERYBEAT_ENABLE_REMOTE_CONTROL",)),
    Setting("beat_remote_control_max_tick_age", "float", None, ("CELERYBEAT_REMOTE_CONTROL_MAX_TICK_AGE",)),
    Setting("beat_max_loop_interval", "float", 0, ("CELERYBEAT_MAX_LOOP_INTERVAL",)),
    Setting("beat_schedule", "any", {}, ("CELERYBEAT_SCHEDULE",)),
    Setting("beat_scheduler", "any", None, ("CELERYBEAT_SCHEDULER",)),
    Setting("beat_schedule_filename", "str", "celerybeat-schedule", ("CELERYBEAT_SCHEDULE_FILENAME",)),
    Setting("beat_sync_every", "int", 0, ("CELERYBEAT_SYNC_EVERY",)),
    Setting("beat_cron_starting_deadline", "int", None, ("CELERYBEAT_CRON_STARTING_DEADLINE",)),
    Setting("broker_url", "any", None),
    Setting("broker_read_url", "str", None),
    Setting("broker_write_url", "str", None),
    Setting("broker_transport", "str", None),
    Setting("broker_transport_options", "dict", {}),
    Setting("broker_connection_timeout", "float", 4),
    Setting("broker_connection_retry", "bool", True),
    Setting("broker_connection_retry_on_startup", "bool", None),
    Setting("broker_connection_max_retries", "int", 100),
    Setting("broker_channel_error_retry", "bool", False),
    Setting("broker_failover_strategy", "str", None),
    Setting("broker_heartbeat", "float", 120),
    Setting("broker_heartbeat_checkrate", "float", 3.0),
    Setting("broker_login_method", "str", None),
    Setting("broker_native_delayed_delivery_queue_type", "str", "quorum"),
    Setting("broker_pool_limit", "int", 10),
    Setting("broker_pool_acquire_timeout", "float", None),
    Setting("broker_use_ssl", "any", False),
    Setting("broker_host", "str", None),
    Setting("broker_port", "int", None),
    Setting("broker_user", "str", None),
    Setting("broker_password", "str", None),
    Setting("broker_vhost", "str", None),
    Setting("cache_backend", "str", None, ("CELERY_CACHE_BACKEND",)),
    Setting("cache_backend_options", "dict", {}, ("CELERY_CACHE_BACKEND_OPTIONS",)),
    Setting("cassandra_entry_ttl", "float", None),
    Setting("cassandra_keyspace", "str", None),
    Setting("cassandra_port", "str", None),
    Setting("cassandra_read_consistency", "str", None),
    Setting("cassandra_servers", "list", None),
    Setting("cassandra_bundle_path", "str", None),
    Setting("cassandra_table", "str", None),
    Setting("cassandra_write_consistency", "str", None),
    Setting("cassandra_auth_provider", "str", None),
    Setting("cassandra_auth_kwargs", "str", None),
    Setting("cassandra_options", "dict", {}),
    Setting("s3_access_key_id", "str", None),
    Setting("s3_secret_access_key", "str", None),
    Setting("s3_bucket", "str", None),
    Setting("s3_base_path", "str", None),
    Setting("s3_endpoint_url", "str", None),
    Setting("s3_region", "str", None),
    Setting("azureblockblob_container_name", "str", "celery"),
    Setting("azureblockblob_retry_initial_backoff_sec", "int", 2),
    Setting("azureblockblob_retry_increment_base", "int", 2),
    Setting("azureblockblob_retry_max_attempts", "int", 3),
    Setting("azureblockblob_base_path", "str", ""),
    Setting("azureblockblob_connection_timeout", "int", 20),
    Setting("azureblockblob_read_timeout", "int", 120),
    Setting("gcs_bucket", "str", None),
    Setting("gcs_project", "str", None),
    Setting("gcs_base_path", "str", ""),
    Setting("gcs_ttl", "float", 0),
    Setting("control_queue_ttl", "float", 300.0),
    Setting("control_queue_expires", "float", 10.0),
    Setting("control_queue_exclusive", "bool", True),
    Setting("control_queue_durable", "bool", False),
    Setting("control_exchange", "str", "celery"),
    Setting("couchbase_backend_settings", "dict", None, ("CELERY_COUCHBASE_BACKEND_SETTINGS",)),
    Setting("arangodb_backend_settings", "dict", None, ("CELERY_ARANGODB_BACKEND_SETTINGS",)),
    Setting("mongodb_backend_settings", "dict", None, ("CELERY_MONGODB_BACKEND_SETTINGS",)),
    Setting("cosmosdbsql_database_name", "str", "celerydb"),
    Setting("cosmosdbsql_collection_name", "str", "celerycol"),
    Setting("cosmosdbsql_consistency_level", "str", "Session"),
    Setting("cosmosdbsql_max_retry_attempts", "int", 9),
    Setting("cosmosdbsql_max_retry_wait_time", "int", 30),
    Setting("event_queue_expires", "float", 60.0, ("CELERY_EVENT_QUEUE_EXPIRES",)),
    Setting("event_queue_ttl", "float", 5.0, ("CELERY_EVENT_QUEUE_TTL",)),
    Setting("event_queue_prefix", "str", "celeryev", ("CELERY_EVENT_QUEUE_PREFIX",)),
    Setting("event_queue_exclusive", "bool", True, ("CELERY_EVENT_QUEUE_EXCLUSIVE",)),
    Setting("event_queue_durable", "bool", False, ("CELERY_EVENT_QUEUE_DURABLE",)),
    Setting("event_serializer", "str", "json", ("CELERY_EVENT_SERIALIZER",)),
    Setting("event_exchange", "str", "celeryev", ("CELERY_EVENT_EXCHANGE",)),
    Setting("redis_backend_use_ssl", "any", None, ("CELERY_REDIS_BACKEND_USE_SSL",)),
    Setting("redis_backend_credential_provider", "any", None),
    Setting("redis_backend_health_check_interval", "float", None),
    Setting("redis_client_name", "str", None),
    Setting("redis_db", "int", None, ("CELERY_REDIS_DB",)),
    Setting("redis_host", "str", None, ("CELERY_REDIS_HOST",)),
    Setting("redis_max_connections", "int", None, ("CELERY_REDIS_MAX_CONNECTIONS",)),
    Setting("redis_username", "str", None, ("CELERY_REDIS_USERNAME",)),
    Setting("redis_password", "str", None, ("CELERY_REDIS_PASSWORD",)),
    Setting("redis_port", "int", None, ("CELERY_REDIS_PORT",)),
    Setting("redis_socket_timeout", "float", 120.0, ("CELERY_REDIS_SOCKET_TIMEOUT",)),
    Setting("redis_socket_connect_timeout", "float", None, ("CELERY_REDIS_SOCKET_CONNECT_TIMEOUT",)),
    Setting("redis_retry_on_timeout", "bool", False, ("CELERY_REDIS_RETRY_ON_TIMEOUT",)),
    Setting("redis_socket_keepalive", "bool", False, ("CELERY_REDIS_SOCKET_KEEPALIVE",)),
    Setting("result_backend", "any", None, ("CELERY_RESULT_BACKEND",)),
    Setting("result_cache_max", "int", -1, ("CELERY_MAX_CACHED_RESULTS",)),
    Setting("result_compression", "str", None, ("CELERY_RESULT_COMPRESSION",)),
    Setting("result_exchange", "str", "celeryresults", ("CELERY_RESULT_EXCHANGE",)),
    Setting("result_exchange_type", "str", "direct", ("CELERY_RESULT_EXCHANGE_TYPE",)),
    Setting("result_expires", "seconds", _ONE_DAY, ("CELERY_TASK_RESULT_EXPIRES",)),
    Setting("result_chord_expires", "seconds", None, ("CELERY_RESULT_CHORD_EXPIRES",)),
    Setting("result_failure_expires", "seconds", None, ("CELERY_RESULT_FAILURE_EXPIRES",)),
    Setting("result_persistent", "bool", None, ("CELERY_RESULT_PERSISTENT",)),
    Setting("result_extended", "bool", False, ("CELERY_RESULT_EXTENDED",)),
    Setting("result_serializer", "str", "json", ("CELERY_RESULT_SERIALIZER",)),
    Setting("result_backend_transport_options", "dict", {}, ("CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS",)),
    Setting("result_chord_retry_interval", "float", 1.0, ("CELERY_RESULT_CHORD_RETRY_INTERVAL",)),
    Setting("result_chord_join_timeout", "float", 3.0, ("CELERY_RESULT_CHORD_JOIN_TIMEOUT",)),
    Setting(
        "result_backend_max_sleep_between_retries_ms",
        "int",
        10000,
        ("CELERY_RESULT_BACKEND_MAX_SLEEP_BETWEEN_RETRIES_MS",),
    ),
    Setting("result_backend_max_retries", "float", float("inf"), ("CELERY_RESULT_BACKEND_MAX_RETRIES",)),
    Setting(
        "result_backend_base_sleep_between_retries_ms",
        "int",
        10,
        ("CELERY_RESULT_BACKEND_BASE_SLEEP_BETWEEN_RETRIES_MS",),
    ),
    Setting("result_backend_always_retry", "bool", False, ("CELERY_RESULT_BACKEND_ALWAYS_RETRY",)),
    Setting("elasticsearch_retry_on_timeout", "bool", None, ("CELERY_ELASTICSEARCH_RETRY_ON_TIMEOUT",)),
    Setting("elasticsearch_max_retries", "int", None, ("CELERY_ELASTICSEARCH_MAX_RETRIES",)),
    Setting("elasticsearch_timeout", "float", None, ("CELERY_ELASTICSEARCH_TIMEOUT",)),
    Setting("elasticsearch_save_meta_as_text", "bool", True, ("CELERY_ELASTICSEARCH_SAVE_META_AS_TEXT",)),
    Setting("security_certificate", "str", None, ("CELERY_SECURITY_CERTIFICATE",)),
    Setting("security_cert_store", "str", None, ("CELERY_SECURITY_CERT_STORE",)),
    Setting("security_key", "str", None, ("CELERY_SECURITY_KEY",)),
    Setting("security_key_password", "str", None, ("CELERY_SECURITY_KEY_PASSWORD",)),
    Setting("security_digest", "str", "sha256", ("CELERY_SECURITY_DIGEST",)),
    Setting("database_url", "str", None, ("CELERY_RESULT_DBURI",)),
    Setting(
        "database_engine_options",
        "dict",
        {"pool_pre_ping": True, "pool_recycle": 3600},
        ("CELERY_RESULT_ENGINE_OPTIONS",),
    ),
    Setting("database_engine_callback", "any", None),
    Setting("database_short_lived_sessions", "bool", False, ("CELERY_RESULT_DB_SHORT_LIVED_SESSIONS",)),
    Setting("database_table_schemas", "dict", None),
    Setting("database_table_names", "dict", None, ("CELERY_RESULT_DB_TABLENAMES",)),
    Setting("database_create_tables_at_setup", "bool", True),
    Setting("task_acks_late", "bool", False, ("CELERY_ACKS_LATE",)),
    Setting("task_acks_on_failure_or_timeout", "bool", True, ("CELERY_ACKS_ON_FAILURE_OR_TIMEOUT",)),
    Setting("task_acks_on_failure", "bool", None, ("CELERY_ACKS_ON_FAILURE",)),
    Setting("task_acks_on_timeout", "bool", None, ("CELERY_ACKS_ON_TIMEOUT",)),
    Setting("task_always_eager", "bool", False, ("CELERY_ALWAYS_EAGER",)),
    Setting("task_annotations", "any", None, ("CELERY_ANNOTATIONS",)),
    Setting("task_compression", "str", None, ("CELERY_MESSAGE_COMPRESSION",)),
    Setting("task_create_missing_queues", "bool", True, ("CELERY_CREATE_MISSING_QUEUES",)),
    Setting("task_create_missing_queue_type", "str", "classic", ("CELERY_CREATE_MISSING_QUEUE_TYPE",)),
    Setting("task_create_missing_queue_exchange_type", "str", None, ("CELERY_CREATE_MISSING_QUEUE_EXCHANGE_TYPE",)),
    Setting("task_inherit_parent_priority", "bool", False, ("CELERY_INHERIT_PARENT_PRIORITY",)),
    Setting("task_default_delivery_mode", "any", 2, ("CELERY_DEFAULT_DELIVERY_MODE",)),
    Setting("task_default_queue", "str", "celery", ("CELERY_DEFAULT_QUEUE",)),
    Setting("task_default_queue_type", "str", "classic", ("CELERY_DEFAULT_QUEUE_TYPE",)),
    Setting("task_default_exchange", "str", None, ("CELERY_DEFAULT_EXCHANGE",)),
    Setting("task_default_exchange_type", "str", "direct", ("CELERY_DEFAULT_EXCHANGE_TYPE",)),
    Setting("task_default_routing_key", "str", None, ("CELERY_DEFAULT_ROUTING_KEY",)),
    Setting("task_default_rate_limit", "rate", None, ("CELERY_DEFAULT_RATE_LIMIT",)),
    Setting("task_default_priority", "int", None, ("CELERY_DEFAULT_PRIORITY",)),
    Setting("task_eager_propagates", "bool", False, ("CELERY_EAGER_PROPAGATES_EXCEPTIONS",)),
    Setting("task_ignore_result", "bool", False, ("CELERY_IGNORE_RESULT",)),
    Setting("task_store_eager_result", "bool", False, ("CELERY_STORE_EAGER_RESULT",)),
    Setting("task_protocol", "int", 2, ("CELERY_TASK_PROTOCOL",)),
    Setting("task_publish_retry", "bool", True, ("CELERY_TASK_PUBLISH_RETRY",)),
    Setting("task_publish_retry_policy", "dict", _PUBLISH_RETRY, ("CELERY_TASK_PUBLISH_RETRY_POLICY",)),
    Setting("task_queues", "any", None, ("CELERY_QUEUES",)),
    Setting("task_queue_max_priority", "int", None, ("CELERY_QUEUE_MAX_PRIORITY",)),
    Setting("task_reject_on_worker_lost", "bool", None, ("CELERY_REJECT_ON_WORKER_LOST",)),
    Setting("task_retry_on_worker_lost", "bool", False, ("CELERY_RETRY_ON_WORKER_LOST",)),
    Setting("task_remote_tracebacks", "bool", False, ("CELERY_REMOTE_TRACEBACKS",)),
    Setting("task_repr_maxlevels", "int", 3, ("CELERY_REPR_MAXLEVELS",)),
    Setting("task_routes", "any", None, ("CELERY_ROUTES",)),
    Setting("task_send_sent_event", "bool", False, ("CELERY_SEND_TASK_SENT_EVENT",)),
    Setting("task_serializer", "str", "json", ("CELERY_TASK_SERIALIZER",)),
    Setting("task_soft_time_limit", "float", None, ("CELERYD_TASK_SOFT_TIME_LIMIT",)),
    Setting("task_time_limit", "float", None, ("CELERYD_TASK_TIME_LIMIT",)),
    Setting("task_store_errors_even_if_ignored", "bool", False, ("CELERY_STORE_ERRORS_EVEN_IF_IGNORED",)),
    Setting("task_track_started", "bool", False, ("CELERY_TRACK_STARTED",)),
    Setting("task_allow_error_cb_on_chord_header", "bool", False, ("CELERY_ALLOW_ERROR_CB_ON_CHORD_HEADER",)),
    Setting("worker_agent", "str", None, ("CELERYD_AGENT",)),
    Setting("worker_autoscaler", "any", None, ("CELERYD_AUTOSCALER",)),
    Setting(
        "worker_cancel_long_running_tasks_on_connection_loss",
        "bool",
        False,
        ("CELERYD_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS",),
    ),
    Setting("worker_soft_shutdown_timeout", "float", 0.0, ("CELERYD_SOFT_SHUTDOWN_TIMEOUT",)),
    Setting("worker_enable_soft_shutdown_on_idle", "bool", False, ("CELERYD_ENABLE_SOFT_SHUTDOWN_ON_IDLE",)),
    Setting("worker_concurrency", "int", None, ("CELERYD_CONCURRENCY",)),
    Setting("worker_consumer", "any", None, ("CELERYD_CONSUMER",)),
    Setting("worker_direct", "bool", False, ("CELERY_WORKER_DIRECT",)),
    Setting("worker_disable_rate_limits", "bool", False, ("CELERY_DISABLE_RATE_LIMITS",)),
    Setting("worker_deduplicate_successful_tasks", "bool", False, ("CELERYD_DEDUPLICATE_SUCCESSFUL_TASKS",)),
    Setting("worker_enable_remote_control", "bool", True, ("CELERY_ENABLE_REMOTE_CONTROL",)),
    Setting("worker_hijack_root_logger", "bool", True, ("CELERYD_HIJACK_ROOT_LOGGER",)),
    Setting("worker_log_color", "bool", None, ("CELERYD_LOG_COLOR",)),
    Setting("worker_log_datefmt", "str", None, ("CELERYD_LOG_DATEFMT",)),
    Setting(
        "worker_log_format",
        "str",
        "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s",
        ("CELERYD_LOG_FORMAT",),
    ),
    Setting("worker_lost_wait", "float", 10.0, ("CELERYD_WORKER_LOST_WAIT",)),
    Setting("worker_max_memory_per_child", "int", None, ("CELERYD_MAX_MEMORY_PER_CHILD",)),
    Setting("worker_max_tasks_per_child", "int", None, ("CELERYD_MAX_TASKS_PER_CHILD",)),
    Setting("worker_pool", "str", "prefork", ("CELERYD_POOL",)),
    Setting("worker_pool_putlocks", "bool", True, ("CELERYD_POOL_PUTLOCKS",)),
    Setting("worker_pool_restarts", "bool", False, ("CELERYD_POOL_RESTARTS",)),
    Setting("worker_pool_start_method", "str", "fork", ("CELERYD_POOL_START_METHOD",)),
    Setting("worker_proc_alive_timeout", "float", 4.0, ("CELERYD_PROC_ALIVE_TIMEOUT",)),
    Setting("worker_prefetch_multiplier", "int", 4, ("CELERYD_PREFETCH_MULTIPLIER",)),
    Setting("worker_eta_task_limit", "int", None, ("CELERYD_ETA_TASK_LIMIT",)),
    Setting("worker_enable_prefetch_count_reduction", "bool", True, ("CELERYD_ENABLE_PREFETCH_COUNT_REDUCTION",)),
    Setting("worker_disable_prefetch", "bool", False, ("CELERYD_DISABLE_PREFETCH",)),
    Setting("worker_redirect_stdouts", "bool", True, ("CELERY_REDIRECT_STDOUTS",)),
    Setting("worker_redirect_stdouts_level", "str", "WARNING", ("CELERY_REDIRECT_STDOUTS_LEVEL",)),
    Setting("worker_send_task_events", "bool", False, ("CELERY_SEND_EVENTS",)),
    Setting("worker_state_db", "str", None, ("CELERYD_STATE_DB",)),
    Setting("worker_task_log_datefmt", "str", None, ("CELERYD_TASK_LOG_DATEFMT",)),
    Setting(
        "worker_task_log_format",
        "str",
        "[%(asctime)s: %(levelname)s/%(processName)s] %(task_name)s[%(task_id)s]: %(message)s",
        ("CELERYD_TASK_LOG_FORMAT",),
    ),
    Setting("worker_timer", "str", None, ("CELERYD_TIMER",)),
    Setting("worker_timer_precision", "float", 1.0, ("CELERYD_TIMER_PRECISION",)),
    Setting("worker_detect_quorum_queues", "bool", True, ("CELERYD_DETECT_QUORUM_QUEUES",)),
)

BY_NAME: dict[str, Setting] = {setting.name: setting for setting in SETTINGS}
_BY_OLD_NAME: dict[str, str] = {old: setting.name for setting in SETTINGS for old in setting.old_names}
_BY_OLD_NAME.update({"BROKER_TRANSPORT": "broker_transport", "CELERYD_LOG_LEVEL": "worker_log_level"})
#: What the names of settings begin with that nobody but us should define.
_OUR_PREFIXES = ("task_", "worker_", "broker_", "result_", "event_", "control_")
_PREFIX_OF_BEAT = "beat_"
#: Names that other programs define under our prefixes.
_FOREIGN = frozenset({"beat_dburi", "beat_engine_options", "beat_schema", "broker_api", "worker_log_level"})
_SIMILAR = 0.8


def canonical(name: str) -> str:
    """Return a setting's name in lower case, given in any of its forms."""
    return _BY_OLD_NAME.get(name) or (name.lower() if name.isupper() else name)


def in_namespace(name: str, namespace: str) -> str | None:
    """Return the setting that a name in a namespace stands for, None if it is not in the namespace."""
    prefix = namespace.upper().rstrip("_") + "_"
    return name[len(prefix) :].lower() if name.upper().startswith(prefix) else None


def nearest(name: str) -> str | None:
    """Return the name of the setting that is spelled most like this one, None if none is."""
    # Not at the top: only mistakes need it.
    from difflib import get_close_matches

    found = get_close_matches(name, BY_NAME, n=1, cutoff=_SIMILAR)
    return found[0] if found else None


def warn_if_unknown(name: str, written: str | None = None) -> None:
    """Warn of a name that looks like a setting but is none.

    Args:
        name: the name in lower case.
        written: as it was written, if otherwise.
    """
    if name in BY_NAME or name in _FOREIGN or name.startswith("_"):
        return
    similar = nearest(name)
    if similar is None and not name.startswith((*_OUR_PREFIXES, _PREFIX_OF_BEAT)):
        return
    hint = f"; did you mean {similar}?" if similar else ""
    warnings.warn(f"{written or name} is not a known setting{hint}", PyworkerWarning, stacklevel=4)
