"""Options, kinds of worker and the shared fixtures of the scenario suites."""

from __future__ import annotations

import gc
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).resolve().parent))

from support.collecting import can_deadlock_in_a_collection
from support.kinds import CONTROLS, KINDS, STOCK, Kind
from support.programs import unable
from support.redis_server import RedisServer, servers_running
from support.scheduling import SharedWorkerScheduling
from support.stock_results import what_a_wait_left
from support.worker import workers_in_use

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator


# How long an example takes on a busy machine says nothing about it.
settings.register_profile("pyworker", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pyworker")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("pyworker")
    group.addoption(
        "--kinds",
        default="",
        help=f"comma separated kinds of worker instead of the tests' own choice: {', '.join(KINDS | CONTROLS)}",
    )
    group.addoption("--full", action="store_true", help="full sizes of the mixed fleet tests (20,000 tasks)")
    group.addoption("--chaos-long", action="store_true", help="the long form of tests/chaos")
    group.addoption(
        "--chaos-share", type=float, default=1.0, help="with --chaos-long: the share of its largest sizes, such as 0.1"
    )
    group.addoption("--seed", type=int, default=None, help="seed of the random tests (printed by each of them)")


def pytest_configure(config: pytest.Config) -> None:
    for line in (
        "control: also runs against Celery's own worker, so that what is asserted stays true of it",
        "lanes(*names): the kinds of worker this test needs; all lanes without it",
        "slow: takes more than a few seconds",
    ):
        config.addinivalue_line("markers", line)


def _kinds_of(metafunc: pytest.Metafunc) -> list[Kind]:
    """Return the kinds a test runs with: its lanes, the control first, narrowed by ``--kinds``."""
    marker = metafunc.definition.get_closest_marker("lanes")
    lanes = list(marker.args) if marker else [kind.lane for kind in KINDS.values() if not kind.is_stock]
    asked = metafunc.config.getoption("--kinds")
    if asked:
        every = KINDS | CONTROLS
        return [kind for kind in (every[name] for name in asked.split(",")) if kind.lane in lanes]
    chosen = [KINDS[f"pyworker-{lane}"] for lane in lanes]
    if metafunc.definition.get_closest_marker("control"):
        chosen.insert(0, STOCK if "fast" in lanes else CONTROLS[f"stock-{lanes[0]}"])
    return chosen


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames:
        kinds = _kinds_of(metafunc)
        metafunc.parametrize("kind", kinds, ids=[kind.name for kind in kinds], scope="module")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests that share a worker in one process: by module and kind (``--dist loadscope`` or ``loadgroup``)."""
    if config.getvalue("dist") not in {"loadscope", "loadgroup"}:
        return None
    # xdist would begin with the modules that have the most tests; these are not the longest ones.
    config.option.loadscopereorder = False
    return SharedWorkerScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long tests; the unit tests come last and fill what is left of the cores."""
    units = Path(__file__).parent / "unit"
    items.sort(key=lambda item: (item.get_closest_marker("slow") is None, units in item.path.parents))


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A private Redis server of one test."""
    with RedisServer() as running:
        yield running


@pytest.fixture
def randomness(request: pytest.FixtureRequest) -> random.Random:
    """Seeded randomness; the seed is printed, so that a failing run can be repeated with ``--seed``."""
    given = request.config.getoption("--seed")
    seed = given if given is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed} (repeat with --seed {seed})")
    return random.Random(seed)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """Collect garbage between the tests only, where older releases of redis-py make Celery's client wait for itself."""
    if not can_deadlock_in_a_collection():
        return (yield)
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the workers said beside a failure."""
    report = yield
    if report.failed:
        for worker in workers_in_use():
            report.sections.append((f"output of worker {worker.description}", "\n".join(worker.lines[-80:])))
        for server in servers_running():
            report.sections.append((f"keys of the server on port {server.port}", server.summary()))
        if call.excinfo is not None and (waited_for := what_a_wait_left(call.excinfo)):
            report.sections.append(("results that were waited for", waited_for))
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name every test that could not run for want of a server or a tool."""
    for name, tests in unable(terminalreporter.stats.get("skipped", ())).items():
        terminalreporter.section(f"{len(tests)} tests could not run: {name} is not installed")
        terminalreporter.write_line("\n".join(tests))


def _encodable(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_encodable(item) for item in value)
    return value


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, object, object]:
    """Escape lone surrogates in reports: they cannot travel between the processes of pytest-xdist."""
    data = yield
    return _encodable(data)
