"""The measured scenarios: each is one run of ``pyworker bench`` with the command that repeats it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from pyworker.bench.options import PRIVATE_FILE, BenchOptions

_FLAGS = {"payload_bytes": "payload"}
#: Peers that are measured if they are installed.
OPTIONAL_PEERS = ("dramatiq", "huey", "rq", "taskiq")
_QUICK_SHARE = 10


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One run."""

    name: str
    title: str
    #: What it is for and how to read it, above its table.
    text: str
    options: BenchOptions
    #: Peers that are compared too, in an environment of their own (see ``older_redis.py``).
    older_redis: tuple[str, ...] = ()
    #: Figures that the table shows, all if empty.
    figures: tuple[str, ...] = ()

    def command(self) -> str:
        """Return the command line of this run."""
        # The command alone would take a SQLite file.
        words = ["pyworker bench"] if self.options.broker else ["pyworker bench --broker redis"]
        default = BenchOptions()
        for item in fields(BenchOptions):
            value = getattr(self.options, item.name)
            if value == getattr(default, item.name):
                continue
            flag = "--" + _FLAGS.get(item.name, item.name).replace("_", "-")
            if value is True:
                words.append(flag)
            else:
                words.append(f"{flag} {','.join(value) if isinstance(value, tuple) else value}")
        return " ".join(words)

    def quick(self) -> Scenario:
        """Return a smaller form, for a look and not for the docs."""
        options = self.options
        return replace(
            self,
            options=replace(
                options,
                tasks=max(options.tasks // _QUICK_SHARE, 200),
                compare_tasks=max((options.compare_tasks or options.tasks) // _QUICK_SHARE, 200),
                rounds=1,
                load_s=min(options.load_s, 1.0),
                idle_cpu_s=min(options.idle_cpu_s, 2.0),
            ),
        )


_FILE_ONLY = ("enqueue_per_s", "batch_enqueue_per_s", "drain_per_s", "drain_with_start_per_s", "cpu_s_per_1000")
_DRAIN_ONLY = ("drain_per_s", "drain_with_start_per_s", "start_to_first_task_s", "cpu_s_per_1000", "peak_memory_mb")
#: Drain figures only.
_DRAIN = BenchOptions(compare=("celery",), idle_round_trips=0, idle_cpu_s=0.0, load_s=0.0)
_W2 = replace(_DRAIN, concurrency=10, rounds=3)
_W7 = replace(_DRAIN, tasks=5000, concurrency=20, compare_concurrency=200, compare_pool="threads")

SCENARIOS = (
    Scenario(
        name="fast",
        title="Drop-in, fast lane",
        text="A stock Celery application and client; only the worker differs. `ideal` answers the client's messages "
        "with no worker at all: its round trip is the client's own part. In the open loop each has half of its own "
        "drain rate to do, so the rates differ; *due to sent* passes before the broker has a task, and is no worker's.",
        options=BenchOptions(tasks=100_000, compare=("celery", "ideal"), compare_tasks=6000, rounds=3),
    ),
    Scenario(
        name="receivers",
        title="Drop-in with prerun and postrun receivers",
        text="The same with two signal receivers of the weight of Django's connection clean-up.",
        options=replace(_DRAIN, tasks=60_000, compare_tasks=6000, lane="receivers", rounds=3),
        figures=_DRAIN_ONLY,
    ),
    Scenario(
        name="library",
        title="Drop-in, library lane",
        text="The task class has its own `__call__`, so Celery's own tracer runs in the child.",
        options=replace(_DRAIN, tasks=40_000, compare_tasks=6000, lane="library", rounds=3),
        figures=_DRAIN_ONLY,
    ),
    Scenario(
        name="own",
        title="Our own client and task API",
        text="The application is built on `pyworker.Celery`; the other side is stock Celery's client and worker.",
        options=BenchOptions(
            tasks=100_000, compare=("celery",), compare_tasks=6000, app_kind="pyworker", rounds=3, load_s=0.0
        ),
    ),
    Scenario(
        name="rtt",
        title="Two milliseconds to the broker, 10 KB payloads, mixed durations",
        text="Of 100 tasks 90 do nothing, 9 sleep for 1 ms, one for 10 ms. A proxy adds the round trip.",
        options=replace(
            _DRAIN,
            tasks=10_000,
            compare_tasks=1500,
            rtt_ms=2.0,
            payload_bytes=10_000,
            work="mixed",
        ),
        figures=_DRAIN_ONLY,
    ),
    Scenario(
        name="rtt-plain",
        title="The same at 0 ms",
        text="For comparison with the table above.",
        options=replace(_DRAIN, tasks=10_000, compare_tasks=3000, payload_bytes=10_000, work="mixed"),
        figures=_DRAIN_ONLY,
    ),
    Scenario(
        name="w1",
        title="W1: 20,000 tasks that print a line",
        text="Concurrency 10, log level INFO, time from the worker's start to the last result. Published for stock "
        "Celery with threads on an M2 Pro: 1,712/s, with prefork 1,136/s.",
        options=replace(_DRAIN, tasks=20_000, work="print", concurrency=10, loglevel="INFO"),
        figures=_DRAIN_ONLY,
    ),
    Scenario(
        name="w2-noop",
        title="W2: 20,000 tasks that do nothing",
        text="Concurrency 10, three interleaved rounds.",
        options=replace(_W2, tasks=20_000),
        figures=_DRAIN_ONLY,
    ),
    Scenario(
        name="w2-io",
        title="W2: 1,000 tasks that sleep for 100 ms",
        text="The ceiling is concurrency divided by the duration: 100/s.",
        options=replace(_W2, tasks=1000, duration_us=100_000),
        figures=_DRAIN_ONLY,
    ),
    Scenario(
        name="w2-cpu",
        title="W2: 1,000 tasks of 1,000 SHA-256 of 1 KiB",
        text="Bound by the processor; the worker's share is small.",
        options=replace(_W2, tasks=1000, work="cpu"),
        figures=_DRAIN_ONLY,
    ),
    Scenario(
        name="w7-noop",
        title="W7: 5,000 tasks that do nothing, 0 ms to the broker",
        text="Stock Celery with 200 threads, as in the published run; pyworker with 20 processes.",
        options=_W7,
        figures=_DRAIN_ONLY,
    ),
    Scenario(
        name="w7-noop-rtt",
        title="W7: 5,000 tasks that do nothing, 2 ms to the broker",
        text="Published for stock Celery: 121/s.",
        options=replace(_W7, rtt_ms=2.0),
        figures=_DRAIN_ONLY,
    ),
    Scenario(
        name="w7-sleep",
        title="W7: 5,000 tasks that sleep for 10 ms, 0 ms to the broker",
        text="20 processes can do at most 2,000/s of these, 200 threads 20,000/s.",
        options=replace(_W7, duration_us=10_000),
        figures=_DRAIN_ONLY,
    ),
    Scenario(
        name="w7-sleep-rtt",
        title="W7: 5,000 tasks that sleep for 10 ms, 2 ms to the broker",
        text="As above.",
        options=replace(_W7, duration_us=10_000, rtt_ms=2.0),
        figures=_DRAIN_ONLY,
    ),
    Scenario(
        name="rabbitmq",
        title="RabbitMQ, results in Redis",
        text="Our client and task API, and the others with theirs, on a RabbitMQ node; what we publish is confirmed, "
        "what Celery publishes is not, unless `confirm_publish` is set (`celery-confirmed`). `bare` takes Celery's "
        "messages and only acknowledges them: what the broker itself can do.",
        options=BenchOptions(
            broker="rabbitmq",
            tasks=60_000,
            compare=("celery", "celery-confirmed", "dramatiq", "bare"),
            compare_tasks=6000,
            app_kind="pyworker",
            rounds=3,
            load_s=0.0,
        ),
    ),
    Scenario(
        name="rabbitmq-celery",
        title="RabbitMQ, drop-in",
        text="A stock Celery application and client; only the worker differs.",
        options=replace(_DRAIN, broker="rabbitmq", tasks=60_000, compare_tasks=6000, rounds=3),
        figures=_DRAIN_ONLY,
    ),
    Scenario(
        name="peers",
        title="Other task libraries",
        text="Each with its own client, its defaults and stored results, on a Redis of the same kind. arq and SAQ ask "
        "for an older redis-py than Celery's and are measured by `.bench/bin/python -m pyworker.bench --broker redis "
        "--worker saq --tasks 5000 --idle-round-trips 100 --load-s 0.0`, in an environment of their own that `make "
        "bench` prepares. SAQ's clean-up of stuck jobs is held off: it starts with the worker, takes jobs that are "
        "just being taken for stuck, and has them run twice.",
        older_redis=("arq", "saq"),
        options=BenchOptions(
            tasks=50_000,
            compare=("celery", *OPTIONAL_PEERS),
            compare_tasks=5000,
            app_kind="pyworker",
            idle_round_trips=100,
            load_s=0.0,
        ),
    ),
    Scenario(
        name="sqlite",
        title="No server: a SQLite file",
        text="Our client and worker, durable: a publish, a result and a late acknowledgement are on the disk before "
        "anybody is told. Beside them Huey on its own file (`huey` by its defaults, which leave writing to the system, "
        "`huey-synced` waiting for the disk), and stock Celery on kombu's SQLAlchemy transport with results in a "
        "second SQLite file, and on the file system transport with results in files, which is not durable.",
        options=BenchOptions(
            tasks=100_000,
            compare=("huey", "huey-synced", "celery-sqlalchemy", "celery-filesystem"),
            compare_tasks=2000,
            app_kind="pyworker",
            broker=PRIVATE_FILE,
            rounds=3,
            idle_round_trips=0,
            idle_cpu_s=0.0,
            load_s=0.0,
        ),
        figures=_FILE_ONLY,
    ),
    Scenario(
        name="sqlite-drop-in",
        title="No server: a SQLite file under a Celery application",
        text="A stock Celery application and client that use pyworker's file as kombu transport and result backend; "
        "only the worker differs.",
        options=BenchOptions(
            tasks=50_000,
            compare=("celery",),
            compare_tasks=2000,
            broker=PRIVATE_FILE,
            idle_round_trips=0,
            idle_cpu_s=0.0,
            load_s=0.0,
        ),
        figures=_FILE_ONLY,
    ),
    Scenario(
        name="sqlite-idle",
        title="No server: an idle worker on a SQLite file",
        text="Sending is durable too: the call that sends waits for the disk before it rings.",
        options=BenchOptions(
            tasks=2000, app_kind="pyworker", broker=PRIVATE_FILE, idle_round_trips=1000, idle_cpu_s=60.0, load_s=0.0
        ),
        figures=("idle_start_p50_ms", "idle_p50_ms", "idle_p99_ms", "idle_cpu_percent"),
    ),
)
