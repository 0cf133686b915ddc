"""Records what each example publishes, for the comparison (``support.recording``)."""

import json
import os

import pytest

from support.recording import Recorder


def pytest_configure(config):
    config.recorded = {}


@pytest.fixture(scope="session")
def recorder():
    with Recorder(os.environ["TEST_BROKER_URL"]) as running:
        yield running


@pytest.fixture(autouse=True)
def recorded(recorder, request):
    """Give each example its messages, those of the worker included: it ends when all of its tasks have ended."""
    recorder.begin()
    yield
    recorder.wait_until_done()
    request.config.recorded[request.node.name] = recorder.take()


def pytest_sessionfinish(session):
    with open(os.environ["TEST_RECORD"], "w", encoding="utf-8") as file:
        json.dump(session.config.recorded, file)
