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


class Unrecorded:
    """For ``memory://``: there is no other side to compare with."""

    def begin(self):
        pass

    def take(self):
        return {}

    def wait_until_done(self, is_done):
        pass


@pytest.fixture(scope="session")
def recorder():
    scheme = urlsplit(BROKER).scheme
    if scheme == "memory":
        # One process: the worker is a thread of this one. Imported here, for Celery's run has nothing of ours.
        from pyworker.contrib.testing.worker import start_worker

        with start_worker(app):
            yield Unrecorded()
    else:
        with RECORDERS[scheme](BROKER) as running:
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
