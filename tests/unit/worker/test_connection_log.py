"""What is logged about the broker connection, word for word Celery's."""

from __future__ import annotations

import logging

import pytest
from celery.utils.time import humanize_seconds

from pyworker.worker.config import RetryPolicy
from pyworker.worker.connection_log import ConnectionLog, in_seconds

URI = "redis://localhost:6379//"


def test_first_attempts_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    log = ConnectionLog(URI, RetryPolicy())
    assert log.on_disconnected("refused", 2.0)
    assert log.on_disconnected("refused", 4.0)
    assert [record.getMessage() for record in caplog.records] == [
        f"consumer: Cannot connect to {URI}: refused.\nTrying again in 2.00 seconds... (1/100)\n",
        f"consumer: Cannot connect to {URI}: refused.\nTrying again in 4.00 seconds... (2/100)\n",
    ]


def test_lost_connection_is_a_warning_and_counting_starts_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = ConnectionLog(URI, RetryPolicy())
    log.on_connected()
    assert log.on_disconnected("reset by peer", 0.0)
    assert log.on_disconnected("refused", 2.0)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", f"Connected to {URI}"),
        (
            "WARNING",
            "consumer: Connection to broker lost. Trying to re-establish the connection... (reset by peer)",
        ),
        ("ERROR", f"consumer: Cannot connect to {URI}: refused.\nTrying again in 2.00 seconds... (1/100)\n"),
    ]


@pytest.mark.parametrize(
    ("connected", "setting", "verb"),
    [
        (False, "broker_connection_retry_on_startup", "establish"),
        (True, "broker_connection_retry", "re-establish"),
    ],
)
def test_disabled_retry_is_named(caplog: pytest.LogCaptureFixture, connected: bool, setting: str, verb: str) -> None:
    log = ConnectionLog(URI, RetryPolicy(retry=False, retry_on_startup=False))
    if connected:
        log.on_connected()
    assert not log.on_disconnected("refused", -1.0)
    assert caplog.records[-1].getMessage() == (
        f"Retrying to {verb} a connection to the message broker after a connection loss has been disabled"
        f" (app.conf.{setting}=False). Shutting down..."
    )


@pytest.mark.parametrize("seconds", [0, 0.001, 0.5, 0.999, 1, 1.5, 2, 59.99, 60, 90, 3600, 86400, 100000])
def test_waiting_times_read_as_in_celery(seconds: float) -> None:
    assert in_seconds(seconds) == humanize_seconds(seconds, "in", " ")
