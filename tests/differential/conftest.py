"""Records what each example publishes, for the comparison (``support.recording``)."""

import json
import os
from urllib.parse import urlsplit

import pytest
from proj.tasks import app

from support.rabbitmq_recording import RabbitmqRecorder
from support.redis_recording import RedisRecorder
from support.sqlite_recording import SqliteRecorder

BROKER = os.environ["TEST_BROKER_URL"]
RECORDERS = {"redis": RedisRecorder, "amqp": RabbitmqRecorder, "sqlite": SqliteRecorder}


def pytest_configure(config):
    config.recorded = {}


@pytest.fixture(scope="session")
def recorder():
    with RECORDERS[urlsplit(BROKER).scheme](BROKER) as running:
        yield running


@pytest.fixture(autouse=True)
def recorded(recorder, request):
    """Give each example its messages, those of the worker included: it ends when all of its tasks have ended."""
    recorder.begin()
    yield
    recorder.wait_until_done(lambda task_id: app.AsyncResult(task_id).ready())
    request.config.recorded[request.node.name] = recorder.take()


def pytest_sessionfinish(session):
    with open(os.environ["TEST_RECORD"], "w", encoding="utf-8") as file:
        json.dump(session.config.recorded, file)
