"""A Celery application of each test's own, and the node around it."""

from __future__ import annotations

import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery, _state, signals
from celery.backends.cache import _DUMMY_CLIENT_CACHE
from celery.utils.dispatch.signal import Signal
from celery.worker import state
from kombu.serialization import prepare_accept_content

from pyworker.compat.celery.calls import CallDesk
from pyworker.compat.celery.control import PanelControl
from pyworker.compat.celery.deliveries import Deliveries
from pyworker.compat.celery.options import worker_arguments
from pyworker.compat.celery.request_facade import Requests
from pyworker.compat.celery.revocations import unwatch_revoked, watch_revoked
from pyworker.compat.celery.worker_facade import make_worker
from pyworker.worker.protocol import WorkerOptions
from support.notices import RecordingEngine
from support.shared_tasks import shared_tasks_kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.filterwarnings("ignore::celery.platforms.SecurityWarning")


def _keep_logging(**_: Any) -> None:
    """Connected to ``setup_logging``: the test's own handlers stay."""


def _is_of_an_application(receiver: Any) -> bool:
    function = receiver() if isinstance(receiver, weakref.ReferenceType) else receiver
    return not str(getattr(function, "__module__", "")).startswith(("celery.", "pyworker."))


@pytest.fixture(autouse=True)
def clean_celery() -> Iterator[None]:
    """Keep Celery's process-wide state of one test from the next, and that of other modules' tests from these."""
    state.reset_state()
    before = _state.default_app, getattr(_state._tls, "current_app", None)
    # Receivers that other tests' applications connected would run in the tests here.
    hooks = [each for each in vars(signals).values() if isinstance(each, Signal)]
    connected = [hook.receivers for hook in hooks]
    for hook in hooks:
        hook.receivers = [entry for entry in hook.receivers if not _is_of_an_application(entry[1])]
    signals.setup_logging.connect(_keep_logging)
    with shared_tasks_kept(begin_with_none=True):
        yield
    signals.setup_logging.disconnect(_keep_logging)
    for hook, receivers in zip(hooks, connected, strict=True):
        hook.receivers = receivers
    unwatch_revoked()
    state.reset_state()
    state.should_stop = state.should_terminate = None
    _state.default_app, _state._tls.current_app = before


@pytest.fixture
def app() -> Iterator[Celery]:
    """An application with an in-memory result store; its broker is never reached."""
    made = Celery("unit", broker="redis://127.0.0.1:1/0", backend="cache+memory://", set_as_current=False)
    made.conf.update(worker_hijack_root_logger=False, worker_redirect_stdouts=False, result_extended=True)
    yield made
    # The store in memory belongs to the process, not to the backend.
    _DUMMY_CLIENT_CACHE.clear()
    made.close()


class Node:
    """The parts that the adapter wires, around one application."""

    def __init__(self, app: Celery, options: WorkerOptions) -> None:
        self.app = app
        self.engine = RecordingEngine()
        self.shut_down: list[int] = []
        self.worker = make_worker(
            app,
            worker_arguments(app, options),
            on_request=lambda request: self.deliveries.hand_over(request),
            jobs_of=lambda pid: [job.task_id for job in self.engine.jobs("active") if job.pid == pid],
        )
        self.requests = Requests(self.worker.consumer, prepare_accept_content(app.conf.accept_content))
        books = threading.RLock()
        self.calls = CallDesk(lambda: app.tasks)
        self.deliveries = Deliveries(
            self.worker.consumer, self.requests, books, lambda: bool(state.should_terminate), self.calls
        )
        self.panel = PanelControl(self.worker, self.requests, books, self.deliveries.terminated_by_command)
        self.deliveries.engine = self.panel.engine = self.engine  # type: ignore[assignment]
        self.worker.attach(self.engine)
        watch_revoked(self.engine)  # type: ignore[arg-type]
        self.worker.prepare_start()
        self.worker.start_steps()

    def request_shutdown(self, *, exitcode: int = 0) -> None:
        """Take the place of the runner."""
        self.shut_down.append(exitcode)

    def command(self, name: str, **arguments: Any) -> Any:
        """Run a remote control command."""
        return self.panel.run(name, arguments, self)  # type: ignore[arg-type]


@pytest.fixture
def make_node(app: Celery) -> Callable[..., Node]:
    """Build the node when the test has defined its tasks."""

    def make(**options: Any) -> Node:
        # Neighbours and monitors are reached through the broker, which is not there.
        alone = {"without_gossip": True, "without_mingle": True, "without_heartbeat": True}
        return Node(app, WorkerOptions(concurrency=2, hostname="unit@host", **{**alone, **options}))

    return make


@contextmanager
def _recorded(names: tuple[str, ...]) -> Iterator[list[tuple[str, Any, dict[str, Any]]]]:
    sent: list[tuple[str, Any, dict[str, Any]]] = []
    connected = []
    for name in names:

        def receive(sender: Any = None, _name: str = name, **arguments: Any) -> None:
            arguments.pop("signal", None)
            sent.append((_name, sender, arguments))

        getattr(signals, name).connect(receive, weak=False)
        connected.append((name, receive))
    try:
        yield sent
    finally:
        for name, receive in connected:
            getattr(signals, name).disconnect(receive)


@pytest.fixture
def recorded() -> Any:
    """A context manager that lists what the named signals sent."""
    return lambda *names: _recorded(names)
