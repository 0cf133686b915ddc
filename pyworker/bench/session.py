"""One subject measured once, from an empty broker to a stopped worker."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from pyworker.bench import processes, tally
from pyworker.bench.delay_proxy import DelayProxy
from pyworker.bench.errors import BenchError
from pyworker.bench.figures import Figures, percentile
from pyworker.bench.measure_drain import measure_drain
from pyworker.bench.measure_idle import measure_idle_cpu, measure_round_trips
from pyworker.bench.measure_load import measure_load
from pyworker.bench.measure_publish import measure_batch, measure_one_by_one
from pyworker.bench.options import PRIVATE_FILE, PRIVATE_RABBITMQ
from pyworker.bench.places import RABBITMQ_OPTIONS, is_on_rabbitmq, private_place
from pyworker.bench.rabbitmq_server import RabbitmqServer
from pyworker.bench.redis_server import RedisServer
from pyworker.bench.settings import AppSettings
from pyworker.bench.worker_process import WorkerProcess

if TYPE_CHECKING:
    from pyworker.bench.options import BenchOptions
    from pyworker.bench.peers.base import Client, Peer
    from pyworker.bench.progress import Reporter

_MEGABYTE = 1 << 20
_MOST_LOAD_TASKS = 200_000
#: The worker may still be acknowledging when the last result is read.
_LEFTOVERS_DEADLINE_S = 5.0


class Session:
    """Measures one peer; every phase adds its figures."""

    def __init__(self, peer: Peer, options: BenchOptions, reporter: Reporter) -> None:
        self._peer = peer
        self._options = options
        self._tasks = options.tasks
        self._reporter = reporter
        self._used = options.tasks
        self.figures = Figures(subject=peer.name, version=peer.version(), tasks=options.tasks)

    def run(self) -> Figures:
        """Measure everything that the options ask for.

        Raises:
            BenchError: a phase could not be finished. Wrong results do not raise: they are the figures' problems.
        """
        with contextlib.ExitStack() as stack:
            client_settings = self._make_settings(stack)
            worker_settings = self._behind_proxy(stack, client_settings)
            record = stack.enter_context(
                contextlib.closing(tally.Tally(client_settings.tally_path, client_settings.tally_capacity))
            )
            client = stack.enter_context(contextlib.closing(self._peer.connect(client_settings)))
            self._publish(client)
            worker = stack.enter_context(
                WorkerProcess(
                    self._peer, worker_settings, concurrency=self._options.concurrency, pool=self._options.pool,
                    loglevel=self._options.loglevel, log_path=f"{client_settings.tally_path}.log",
                )
            )  # fmt: skip
            self._drain(worker, client, record)
            self._idle(worker, client, record)
            self._load(worker, client, record)
            self._memory(worker)
            self._check(client, record)
            self.figures.exit_code, self.figures.stop_s = worker.stop()
            if self.figures.exit_code:
                self.figures.problems.append(f"the worker's exit code is {self.figures.exit_code}")
            # RabbitMQ does not count what a consumer holds; it comes back with its end.
            if client.leftovers():
                self.figures.problems.append(f"{client.leftovers()} messages came back when the worker stopped")
        return self.figures

    def _make_settings(self, stack: contextlib.ExitStack) -> AppSettings:
        broker = self._options.broker
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="pyworker-bench-"))
        transport_options: dict[str, Any] = {}
        if broker is None:
            server = stack.enter_context(RedisServer())
            broker, backend = server.url(0), self._options.backend or server.url(1)
        elif broker == PRIVATE_FILE:
            place = private_place(directory, self._peer.name)
            broker, backend = place.broker_url, self._options.backend or place.backend_url
            transport_options.update(place.transport_options)
        elif is_on_rabbitmq(broker):
            transport_options.update(RABBITMQ_OPTIONS.get(self._peer.name, {}))
            if broker == PRIVATE_RABBITMQ:
                broker = stack.enter_context(RabbitmqServer()).url()
            backend = self._options.backend or stack.enter_context(RedisServer()).url(1)
        else:
            backend = self._options.backend or broker
        path = os.path.join(directory, "tally")
        capacity = self._tasks + self._options.idle_round_trips + _MOST_LOAD_TASKS
        tally.create(path, capacity)
        return AppSettings(
            broker_url=broker, backend_url=backend, queue=f"bench-{secrets.token_hex(4)}", tally_path=path,
            tally_capacity=capacity, ignore_result=self._options.ignore_result, work=self._options.work,
            duration_s=self._options.duration_us / 1e6, lane=self._options.lane, transport_options=transport_options,
            task_events=self._options.task_events,
        )  # fmt: skip

    def _behind_proxy(self, stack: contextlib.ExitStack, settings: AppSettings) -> AppSettings:
        """Return the settings as the worker gets them: through the delay, if one is asked for."""
        if not self._options.rtt_ms:
            return settings

        def delayed(url: str) -> str:
            parts = urlsplit(url)
            proxy = DelayProxy(parts.hostname or "localhost", parts.port or 6379, self._options.rtt_ms)
            port = stack.enter_context(proxy).port
            user_info, at, _address = parts.netloc.rpartition("@")
            return urlunsplit(parts._replace(netloc=f"{user_info}{at}127.0.0.1:{port}"))

        return replace(settings, broker_url=delayed(settings.broker_url), backend_url=delayed(settings.backend_url))

    def _publish(self, client: Client) -> None:
        sample = min(self._options.publish_sample, self._tasks // 2)
        self._reporter.phase(f"{self._peer.name}: sending {self._tasks} tasks", self._tasks)
        if sample:
            client.send(0)  # connects
            self.figures.enqueue_per_s = measure_one_by_one(client, range(1, sample))
            self._reporter.advance(sample)
            self.figures.batch_enqueue_per_s = measure_batch(client, range(sample, 2 * sample))
        client.preload(range(2 * sample, self._tasks))

    def _drain(self, worker: WorkerProcess, client: Client, record: tally.Tally) -> None:
        self._reporter.phase(f"{self._peer.name}: running {self._tasks} tasks", self._tasks)
        drain = measure_drain(worker, client, record, self._tasks, self._reporter)
        figures = self.figures
        figures.drain_per_s = (self._tasks - 1) / (drain.finished_at - drain.first_start_at)
        figures.drain_with_start_per_s = self._tasks / (drain.finished_at - worker.started_at)
        figures.start_to_first_task_s = drain.first_start_at - worker.started_at
        figures.cpu_s_per_1000 = drain.cpu_s_per_1000
        figures.peak_memory_mb = drain.peak_memory_bytes / _MEGABYTE

    def _idle(self, worker: WorkerProcess, client: Client, record: tally.Tally) -> None:
        trips = self._options.idle_round_trips
        if trips and client.stored(0, 1) is not None:
            self._reporter.phase(f"{self._peer.name}: {trips} idle round trips")
            found = measure_round_trips(client, record, self._take(trips))
            self.figures.idle_start_p50_ms = percentile(found.to_start_s, 50) * 1000
            self.figures.idle_p50_ms = percentile(found.to_result_s, 50) * 1000
            self.figures.idle_p99_ms = percentile(found.to_result_s, 99) * 1000
        if self._options.idle_cpu_s:
            self._reporter.phase(f"{self._peer.name}: idle for {self._options.idle_cpu_s:.0f} s")
            self.figures.idle_cpu_percent = measure_idle_cpu(worker, self._options.idle_cpu_s)

    def _load(self, worker: WorkerProcess, client: Client, record: tally.Tally) -> None:
        if not self._options.load_s or not self.figures.drain_per_s:
            return
        rate = self.figures.drain_per_s / 2
        count = min(int(rate * self._options.load_s), _MOST_LOAD_TASKS)
        if not count:
            return
        self._reporter.phase(f"{self._peer.name}: {count} tasks at {rate:.0f}/s")
        first = self._take(count).start
        load = measure_load(worker, client, record, first=first, count=count, rate_per_s=rate)
        self.figures.load_offered_per_s = rate
        self.figures.load_sent_p50_ms = percentile(load.to_sent_s, 50) * 1000
        self.figures.load_sent_p99_ms = percentile(load.to_sent_s, 99) * 1000
        self.figures.load_p50_ms = percentile(load.to_start_s, 50) * 1000
        self.figures.load_p99_ms = percentile(load.to_start_s, 99) * 1000
        self.figures.load_max_ms = max(load.to_start_s) * 1000

    def _memory(self, worker: WorkerProcess) -> None:
        found = processes.memory(worker.pid)
        if not found:
            return
        below = [item.pss for item in found[1:]]
        self.figures.processes = len(found)
        self.figures.parent_memory_mb = found[0].pss / _MEGABYTE
        self.figures.child_memory_mb = sum(below) / len(below) / _MEGABYTE if below else None

    def _check(self, client: Client, record: tally.Tally) -> None:
        self._reporter.phase(f"{self._peer.name}: checking {self._used} results")
        problems = self.figures.problems
        deadline = time.monotonic() + _LEFTOVERS_DEADLINE_S
        while (client.leftovers() or client.stored(0, self._used) not in (None, self._used)) and (
            time.monotonic() < deadline
        ):
            time.sleep(0.01)
        if client.leftovers():
            problems.append(f"{client.leftovers()} messages are left in the broker")
        missing = record.missing(0, self._used)
        if missing:
            problems.append(f"{len(missing)} tasks never ran, the first is {missing[0]}")
        repeated = record.repeated(0, self._used)
        self.figures.repeated = len(repeated)
        if repeated:
            problems.append(f"{len(repeated)} tasks ran more than once, the first is {repeated[0]}")
        problems += client.check(0, self._used)
        self.figures.checked_results = 0 if client.stored(0, 1) is None else self._used

    def _take(self, count: int) -> range:
        """Reserve the next task indexes."""
        first, self._used = self._used, self._used + count
        return range(first, self._used)


def measure(peer: Peer, options: BenchOptions, reporter: Reporter) -> Figures:
    """Measure one peer once.

    Raises:
        BenchError: it could not be measured.
    """
    try:
        return Session(peer, options, reporter).run()
    except BenchError as error:
        raise BenchError(f"{peer.name}: {error}") from error
