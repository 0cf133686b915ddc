"""One stage for each chosen transport, shared by the module's scenarios, and the report for the documentation."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.conformance_stage import ConformanceStage
from support.transport_servers import Missing
from support.transports import Transport, chosen

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator


#: Modules of whose transports none is asked for.
collect_ignore = [
    module
    for module, is_smoke in (("test_scenarios.py", False), ("test_smoke.py", True))
    if not chosen(is_smoke=is_smoke)
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "transport" in metafunc.fixturenames:
        transports = chosen(is_smoke=metafunc.module.__name__.endswith("test_smoke"))
        metafunc.parametrize("transport", transports, ids=[each.name for each in transports], scope="module")


@pytest.fixture(scope="module")
def opened(transport: Transport) -> Iterator[ConformanceStage]:
    """The transport's servers and a worker with two children."""
    stage = ConformanceStage(transport)
    try:
        stage.open()
    except Missing as missing:
        _report(transport.name, "smoke" if transport.is_smoke else "*", f"not run here: {missing}")
        (pytest.skip if transport.is_smoke else pytest.fail)(f"{transport.name}: {missing}")
    try:
        stage.worker = stage.start_worker()
        yield stage
    finally:
        stage.close()


@pytest.fixture
def stage(opened: ConformanceStage, request: pytest.FixtureRequest) -> Iterator[ConformanceStage]:
    """The module's shared stage; what its workers said is printed when a scenario fails."""
    scenario = request.node.originalname.removeprefix("test_")
    _report(opened.transport.name, scenario, "failed")
    yield opened
    outcome = request.node.stash.get(_OUTCOME, None)
    if outcome is not None and outcome.passed:
        lacks = scenario in _NEEDS_FANOUT and not opened.transport.has_fanout
        _report(opened.transport.name, scenario, "no fan-out" if lacks else "passed")
    elif outcome is not None and outcome.failed:
        opened.describe()


#: What a transport without fan-out cannot do, under stock Celery either.
_NEEDS_FANOUT = frozenset({"remote_control", "added_queue", "events"})
_OUTCOME = pytest.StashKey[pytest.TestReport]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[_OUTCOME] = report
    return report


def _report(transport: str, scenario: str, outcome: str) -> None:
    """Note an outcome where ``CONFORMANCE_REPORT`` says; the last word on a scenario counts."""
    path = os.environ.get("CONFORMANCE_REPORT")
    if path:
        with Path(path).open("a") as report:
            report.write(json.dumps([transport, scenario, outcome]) + "\n")
