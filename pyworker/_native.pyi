"""The native core. Users never import this; ``pyworker.worker``, ``pyworker.publish`` and ``pyworker.backends`` do.

Everything that crosses does so in batches or once per task; nothing here is called per byte.
"""

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias, final

from pyworker.publish.templates import SeriesParts
from pyworker.transport.amqp_config import AmqpAddress, AmqpQueue, Declaration, DeclareQueue
from pyworker.worker.config import EngineConfig, RedisAddress
from pyworker.worker.sqlite_config import SqliteAddress

__version__: Final[str]

#: One claimed job, a plain tuple because it is unpacked once per task:
#: (sequence, task_index, headers, properties, body, content_type, content_encoding, flags).
#: ``headers`` and ``properties`` are JSON objects as bytes exactly as they came; ``body`` is the raw body
#: (base64 undone, still compressed if ``headers`` names a compression). Flag bit 0: redelivered.
Job: TypeAlias = tuple[int, int, bytes, bytes, bytes, str, str, int]

class NativeError(Exception):
    """An error of the native core.

    Attributes:
        kind: what went wrong; one of the names in ``native/src/error.rs``.
        retryable: whether the same operation may succeed later.
    """

    kind: str
    retryable: bool

    def __new__(cls, message: str, kind: str = "internal", retryable: bool = False) -> NativeError: ...

@final
class Notice:
    """Something the engine tells the parent's Python side."""

    #: What it is about:
    #: ``ready`` (again after each reconnection); ``disconnected`` (text, retry_in_s);
    #: ``child_started`` / ``child_exited`` (pid, index, status);
    #: ``log`` (level, text); ``stopped``; ``delivery`` (reason, handle and the message's parts);
    #: ``events`` (raw: a JSON list of task events, status: how many).
    kind: Literal[
        "ready", "disconnected", "child_started", "child_exited", "received", "log", "stopped", "delivery", "events"
    ]
    #: For ``delivery``: why it is shown to Python.
    reason: Literal[
        "",
        "unknown_task",
        "malformed",
        "invalid_task",
        "undecodable",
        "protocol1",
        "parent_lane",
        "expired",
        "revoked",
        "lost",
        "soft_timeout",
        "hard_timeout",
        "terminated",
        "rejected",
        "too_many_deliveries",
        "accepted",
        "ended",
    ]
    #: Names the delivery in :meth:`Engine.resolve`; 0 where no answer is expected (``soft_timeout``, ``accepted``).
    handle: int
    task_index: int
    task_id: str
    task_name: str
    headers: bytes
    properties: bytes
    body: bytes
    content_type: str
    content_encoding: str
    redelivered: bool
    queue: str
    #: The raw message for ``malformed``, the list of ``events``.
    raw: bytes
    #: Process id of the child concerned, 0 if none.
    pid: int
    #: Pool index of the child concerned.
    index: int
    #: ``lost``, ``child_exited``: exit code, negative a signal number. ``terminated``: the signal number.
    status: int
    #: ``soft_timeout``, ``hard_timeout``: the limit in seconds. ``disconnected``: until the next try (-1 never).
    #: ``accepted``: the monotonic time of the start.
    seconds: float
    #: Text for people: error, exception repr, log line.
    text: str
    #: ``rejected``: whether the task asked for a requeue.
    requeue: bool

@final
class Engine:
    """The engine of one node. Construct and ``start`` only after the fork server was forked."""

    def __new__(cls, config: EngineConfig, forkserver_fd: int) -> Engine:
        """Validate the configuration.

        Args:
            config: see ``pyworker.worker.config``.
            forkserver_fd: the parent's end of the fork server's ``SOCK_SEQPACKET`` socket; owned from now on.

        Raises:
            NativeError: kind ``config``, naming the field.
        """

    def start(self) -> None:
        """Start the engine's thread: children are asked for, the broker is connected."""

    def serve_probes(self, address: str) -> str:
        """Answer ``/livez``, ``/readyz`` and ``/metrics`` from a thread of its own; before ``start``.

        Args:
            address: where to listen, ``127.0.0.1:9808``; port 0 takes a free one.

        Returns:
            The address with the port in use.

        Raises:
            NativeError: the address is none or taken.
        """

    def set_gauges(self, gauges: Sequence[tuple[str, str, str, float]]) -> None:
        """Replace the figures that Python measures for ``/metrics``: (name, label, the label's value, value)."""

    def wait(self, timeout_s: float) -> list[Notice]:
        """Block without the GIL until there are notices or the time is over; signals interrupt it."""

    def wake(self) -> None:
        """Make a ``wait`` in progress return early. Safe in a signal handler."""

    def resolve(self, handle: int, verdict: Literal["ack", "reject", "requeue", "dispatch", "abandon"]) -> None:
        """Answer a ``delivery`` notice."""

    def replace(
        self,
        handle: int,
        headers: bytes,
        properties: bytes,
        body: bytes,
        content_type: str,
        content_encoding: str,
        task_id: str,
        task_name: str,
    ) -> None:
        """Give a shown delivery new content (protocol 1 rewritten as 2) before it is resolved with ``dispatch``."""

    def call(self, task_name: str, task_id: str, *, headers: bytes, body: bytes) -> None:
        """Run something in the pool that is no message: a job with this content, settled nowhere.

        Args:
            task_name: a registered task, whose time limits and rate it has.
            task_id: names it in :meth:`jobs` and :meth:`terminate`.
            headers: a JSON object with ``task`` and ``id``.
            body: handed to the child as it is.
        """

    def stop_consuming(self) -> None:
        """First step of every shutdown: fetch nothing more, hand unstarted messages back."""

    def stop(self, *, deadline_s: float | None) -> int:
        """Finish: wait for running tasks up to the deadline (None for ever), flush acks and results, end the
        children, close. Idempotent. Returns the number of tasks still running at the deadline."""

    def terminate(self, task_ids: Sequence[str], *, signal: int) -> list[str]:
        """Signal the children that run these tasks now; returns the ids that were running."""

    def revoke(self, task_ids: Sequence[str]) -> None:
        """Never start these tasks; held ones are shown to Python as ``revoked`` deliveries."""

    def set_rate_limit(self, task_index: int, per_s: float | None) -> None:
        """Change a task's starts per second, also for those that wait; ``None`` lifts the limit.

        Raises:
            NativeError: kind ``config``, the limit is no positive number.
        """

    def set_time_limits(self, task_index: int, soft_s: float | None, hard_s: float | None) -> None:
        """Change a task's time limits for runs that start from now on."""

    def set_queue_active(self, name: str, active: bool) -> None:
        """Begin or end consuming from a queue; an unknown one is added.

        Raises:
            NativeError: the broker cannot.
        """

    def declare_queue(self, queue: AmqpQueue, declarations: Sequence[Declaration]) -> None:
        """Begin consuming from a queue of RabbitMQ, with what is declared for it on every connection from now on.

        Raises:
            NativeError: the broker cannot, or an argument has no form in AMQP.
        """

    def grow(self, count: int) -> int:
        """Add children; returns the pool's new size."""

    def shrink(self, count: int) -> int:
        """Let up to ``count`` children go that run nothing, never the last one; returns how many go."""

    def restart_children(self) -> None:
        """Replace every child once its task is done."""

    def watch_stamps(self) -> None:
        """Show every stamped message as a ``revoked`` delivery before it starts, from now on."""

    def set_revoke_bounds(self, *, count: int, life_s: float) -> None:
        """Bound the revoked ids that the engine remembers."""

    def set_task_events(self, enabled: bool, *, pid: int, utc_offset_h: float, silent_tasks: Sequence[int]) -> None:
        """Turn task events on or off; ``silent_tasks`` are the indexes of tasks that send none."""

    def send_task_event(self, kind: str, task_id: str, members: bytes) -> None:
        """Put a task event of Python's own among the engine's. ``members``: its other members, a JSON object."""

    def clock(self) -> int:
        """The node's logical clock."""

    def forward_clock(self) -> int:
        """Move the logical clock by one and return it."""

    def adjust_clock(self, other: int) -> int:
        """Move the logical clock past another node's and return it."""

    def jobs(self, which: Literal["active", "reserved", "scheduled"]) -> list[Notice]:
        """A snapshot of the jobs in a state (``pid`` and ``seconds`` = start time for active, eta for scheduled)."""

    def counters(self) -> dict[str, int]:
        """All counters of the node, by name (docs/counters.md)."""

    def children(self) -> list[tuple[int, int, int]]:
        """(index, pid, tasks started) of every live child."""

    def fileno(self) -> int:
        """A descriptor that is readable while notices wait."""

@final
class ChildLink:
    """A child's end of its pool link. One per child, used by its main thread only."""

    def __new__(cls, memory_fd: int, socket_fd: int) -> ChildLink:
        """Map the link's memory and take over both descriptors."""

    def next_job(self) -> Job | None:
        """Block (GIL released, signals handled) until a job is claimed; ``None`` when the child shall end.
        From here the job counts as started."""

    def store(self, sequence: int, key: bytes, value: bytes, is_success: bool) -> None:
        """Queue a result write (``celery-task-meta-...`` key, encoded meta), ordered with the job's end.
        ``sequence`` is the job's, or 0 for a write of another task's result."""

    def flush(self) -> None:
        """Return when every write queued by this child is in the store.

        Raises:
            NativeError: the store refused one of them.
        """

    def finish(self, sequence: int, outcome: int, runtime_s: float, text: str) -> None:
        """End the job. ``text``: result repr for success, exception repr otherwise; may be empty."""

    def soft_timeout_hit(self) -> bool:
        """Called by the SIGUSR1 handler: whether the running job is marked for its soft limit; clears the mark."""

    def set_put_off(self, put_off: bool) -> None:
        """Called by signal handlers: whether the signal is going to come again; a job marked for it ends no sooner."""

    def running(self) -> int:
        """The sequence of the job being run, 0 if none."""

    def retire(self) -> None:
        """Take no further job (memory or task limit reached): ``next_job`` returns None from now on."""

@final
class KombuLink:
    """Where the engine and the thread that owns one of kombu's connections meet; one link for each engine.

    Both sides cross once per batch. Everything but the constructor is the thread's.
    """

    def __new__(cls) -> KombuLink: ...
    def exchange(
        self,
        deliveries: Sequence[tuple[int, int, int, bytes, bytes, bytes, str, str]],
        confirmed: int,
    ) -> tuple[int, list[tuple[int, str]], list[tuple[int, str, bool]], bool]:
        """Hand messages over, confirm ends and take what is wanted next.

        Args:
            deliveries: tag (never used twice), index of the queue, earlier deliveries, headers and properties as JSON
                objects, body, content type, content encoding; in order.
            confirmed: how many of the ends taken earlier are done, the oldest first.

        Returns:
            How many messages the engine can take now; ends of deliveries in order, each a tag with ``ack``, ``reject``,
            ``requeue`` or ``release``; queues to begin (True) or end consuming from, with index and name; whether the
            connection is to be closed.
        """

    def connected(self) -> None:
        """Tell that the broker is consumed from."""

    def disconnected(self, text: str, retry_in_s: float | None) -> None:
        """Tell that the connection is gone or cannot be made: every delivery that came over it is void.

        Args:
            text: why.
            retry_in_s: seconds until the next attempt, ``None`` for never.
        """

    def degraded(self, text: str) -> None:
        """Tell something for the worker's log, as a warning."""

    def wait(self, timeout_s: float) -> bool:
        """Wait without the GIL until the engine wants something."""

    def fileno(self) -> int:
        """A descriptor that is readable when the engine wants something; :meth:`exchange` silences it."""

@final
class RedisPublisher:
    """Publishes task messages to Redis in kombu's layout; safe across threads and forks.

    Connects lazily; a connection opened before a fork is not used after it. Blocks without the GIL.
    """

    def __new__(
        cls,
        address: RedisAddress,
        *,
        global_keyprefix: str = "",
        separator: str = "\x06\x16",
        priority_steps: Sequence[int] = (0, 3, 6, 9),
        max_connections: int = 10,
    ) -> RedisPublisher: ...
    def publish(self, queue: str, priority: int, message: bytes) -> None:
        """Push one envelope.

        Raises:
            NativeError: ``connection``, ``timeout``, ``authentication``, ``server_busy``, ``server_refused``.
        """

    def publish_many(self, messages: Sequence[tuple[str, int, bytes]]) -> None:
        """Push many envelopes (queue, priority, message) pipelined, all or an error that names how many went."""

    def close(self) -> None:
        """Close the idle connections."""

@final
class ResultSubscription:
    """Waits for keys of a result store to be published; for one thread of one process at a time.

    Blocks without the GIL. After an error it must be dropped.

    Raises:
        NativeError: ``connection``, ``timeout``, ``authentication``, ``server_busy``, ``server_refused``; from each
            method.
    """

    def __new__(cls, address: RedisAddress) -> ResultSubscription: ...
    def subscribe(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Subscribe to the keys' channels, then read the keys: one round trip. What is not there will be announced."""

    def read(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Read keys again."""

    def next(self, timeout_s: float) -> tuple[bytes, bytes] | None:
        """Wait for the next key and what was published; ``None`` when time is up or a signal came."""

    def unsubscribe(self) -> None:
        """End all subscriptions, a few of them not before the next wait begins."""

@final
class AmqpReplies:
    """Consumes a reply queue, which is declared first; for one thread of one process at a time.

    Blocks without the GIL. After an error it must be dropped.

    Raises:
        NativeError: ``connection``, ``timeout``, ``authentication``, ``server_refused``, ``too_large``; from each
            method.
    """

    def __new__(cls, addresses: Sequence[AmqpAddress], queue: DeclareQueue) -> AmqpReplies: ...
    def next(self, timeout_s: float) -> tuple[str, str, str, bytes] | None:
        """Wait for a reply: correlation id, content type, content encoding, body; ``None`` when time is up."""

@final
class AmqpPublisher:
    """Publishes task messages to RabbitMQ, confirmed by the server; safe across threads and forks.

    Connects lazily; a connection opened before a fork is not used after it. Blocks without the GIL.
    """

    def __new__(
        cls, addresses: Sequence[AmqpAddress], *, confirm: bool = True, timeout_s: float = 30.0, max_idle: int = 10
    ) -> AmqpPublisher: ...
    def declare(self, declarations: Sequence[Declaration]) -> None:
        """Declare now, and on every connection that this process opens later.

        Raises:
            NativeError: ``connection``, ``timeout``, ``authentication``, ``server_refused``.
        """

    def publish_many(
        self, messages: Sequence[tuple[str, str, bool, bytes]], *, first: Declaration | None = None
    ) -> None:
        """Publish (exchange, routing key, whether it is mandatory that a queue takes it, message) pipelined.

        Returns when the server has confirmed all.

        Args:
            messages: what to publish.
            first: declared right before them each time, and not remembered.

        Raises:
            NativeError: as ``declare``, and ``server_busy`` for a refusal (nack); names how many were confirmed.
        """

    def close(self) -> None:
        """Close the idle connections."""

def build_amqp_message(
    body: bytes, headers: bytes, properties: bytes, content_type: str, content_encoding: str
) -> bytes:
    """Build a message for :class:`AmqpPublisher` from headers and properties given as JSON objects.

    Raises:
        NativeError: ``malformed`` for what has no form in AMQP.
    """

@final
class SqliteFile:
    """A SQLite file that is broker and result store; safe across threads and forks, blocks without the GIL.

    Every process opens connections of its own, lazily. What a writing method did is on the disk when it returns,
    unless the address says otherwise. Errors are :class:`NativeError`.
    """

    def __new__(cls, address: SqliteAddress, *, priority_steps: Sequence[int] = (0, 3, 6, 9)) -> SqliteFile:
        """Open the file, making it if it is not there.

        Raises:
            NativeError: ``config`` for a place or a file that is not to be used, with the reason.
        """

    def publish(self, queue: str, priority: int, message: bytes) -> None:
        """Add one envelope; its eta and expiry are read from its headers."""

    def publish_many(self, messages: Sequence[tuple[str, int, bytes]]) -> None:
        """Add many envelopes (queue, priority, message) by one commit, all or none."""

    def seen(self, name: str) -> int:
        """Return what the bell ``queues`` or ``results`` says; read before looking for what is waited for."""

    def wait(self, name: str, seen: int, names: Sequence[bytes], timeout_s: float) -> bool:
        """Sleep until the bell has rung for one of these queues or keys since ``seen``; whether to look."""

    def ring(self, name: str, names: Sequence[bytes]) -> None:
        """Wake who waits for these names, though nothing came."""

    def size(self, queue: str) -> int:
        """Count the messages that wait."""

    def purge(self, queue: str) -> int:
        """Delete the messages that nobody holds; returns how many."""

    def declare_queue(self, queue: str, expires_s: float | None) -> None:
        """Make a queue known; unused for so many seconds it goes away."""

    def delete_queue(self, queue: str) -> None:
        """Delete a queue, its bindings and its messages."""

    def queues(self) -> list[tuple[str, int, int, int]]:
        """Return name, waiting, scheduled and held messages of every queue."""

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Read values in the keys' order."""

    def set(
        self,
        key: bytes,
        value: bytes,
        *,
        is_success: bool = False,
        protected: bool = False,
        expires_s: int | None = None,
    ) -> None:
        """Store a value; with ``protected`` a stored success is left alone."""

    def delete(self, keys: Sequence[bytes]) -> None:
        """Forget keys."""

    def add(self, key: bytes, by: int = 1, *, expires_s: int | None = None) -> int:
        """Add to a number that counts from zero and return it."""

    def expire(self, key: bytes, expires_s: int | None) -> None:
        """Give a key another time to end."""

    def set_chord_size(self, chord: str, size: int, expires_s: int | None) -> None:
        """Say how many parts a chord has; it may be applied anew."""

    def grow_chord(self, chord: str) -> None:
        """Say that a running chord has one part more."""

    def add_chord_part(
        self,
        chord: str,
        task: str,
        position: float,
        value: bytes,
        *,
        token: str,
        claim_s: float,
        expires_s: float | None,
    ) -> int:
        """Count a part: 1 if all are there and the body is the caller's to send.

        0 while parts are missing or when the body was sent, 2 if somebody else, who may have died, has the claim.
        """

    def extend_chord_claim(self, chord: str, token: str, claim_s: float) -> bool:
        """Prolong a claim by seconds from now; False if it is no longer the token's."""

    def chord_parts(self, chord: str) -> list[bytes]:
        """Return the parts' values in order."""

    def finish_chord(self, chord: str, token: str) -> None:
        """Forget the parts if the claim is still the caller's."""

    def bind(self, exchange: str, binding: tuple[str, str, str]) -> None:
        """Bind (routing key, pattern, queue) to an exchange."""

    def unbind(self, exchange: str, binding: tuple[str, str, str]) -> None:
        """Undo a binding."""

    def bindings(self, exchange: str) -> list[tuple[str, str, str]]:
        """Return what is bound to an exchange."""

    def broadcast(self, exchange: str, message: bytes) -> None:
        """Send to everybody who listens to an exchange now."""

    def listeners(self, exchange: str) -> list[str]:
        """Return the queues by which living processes listen to a fan-out exchange."""

    def last_broadcast(self) -> int:
        """Return the number of the last broadcast."""

    def broadcasts_after(self, after: int, most: int) -> list[tuple[int, str, bytes]]:
        """Return number, exchange and message of later broadcasts."""

    def problems(self) -> list[str]:
        """Return what is wrong with the file, nothing if all is well; reads all of it."""

    def vacuum(self) -> None:
        """Give unused space back to the file system; others wait meanwhile."""

    def tidy(self) -> bool:
        """Delete some of what is past its time; True if there may be more."""

    @property
    def clock_ahead_s(self) -> float:
        """How far the clock of a file that is not durable was moved ahead."""

    def move_clock(self, by_s: float) -> None:
        """Move the wall clock of everybody who uses the file ahead, and wake them.

        Raises:
            NativeError: ``config`` for a durable file, whose clock is the machine's, and for a number below zero.
        """

    def close(self) -> None:
        """Close this process's connections; the handle stays usable."""

@final
class SqliteConsumer:
    """A consumer that blocks: kombu's channels. Signs on when it first consumes or fetches."""

    def __new__(cls, file: SqliteFile, owner: str, lease_s: float) -> SqliteConsumer: ...
    def consume(self, queue: str, exchange: str | None = None) -> None:
        """Begin to consume a queue, by which its owner listens to a fan-out exchange if one is named."""

    def cancel(self, queue: str) -> None:
        """End consuming a queue."""

    def fetch(self, queues: Sequence[tuple[str, bool]], want: int) -> list[tuple[int, int, int, bytes]]:
        """Take messages of queues in turn: number, place of the queue, earlier deliveries, envelope.

        The flag beside a queue says that nobody acknowledges: its messages leave the file when they are taken.
        """

    def settle(self, ids: Sequence[int], how: str) -> None:
        """End deliveries: ``ack``, ``requeue`` (counted) or ``release``; those of others are passed over."""

    def close(self) -> None:
        """Sign off; what is held is handed back by others."""

def build_envelope(body: bytes, headers: bytes, properties: bytes, content_type: str, content_encoding: str) -> bytes:
    """Build the virtual transport envelope: base64 body, headers and properties as given JSON objects."""

def compress(name: str, data: bytes) -> tuple[bytes, str]:
    """Compress under a kombu name or content type (``zlib gzip bzip2 lzma xz brotli zstd``); (data, content type)."""

def decompress(content_type: str, data: bytes, max_bytes: int) -> bytes:
    """Undo a compression named by content type or kombu name.

    Raises:
        NativeError: ``too_large`` past ``max_bytes``, ``malformed`` for damaged data, ``config`` for an unknown name.
    """

def fill_messages(parts: SeriesParts, ids: list[str], arguments: list[tuple[object, ...]]) -> list[bytes | None]:
    """Build the messages of calls that differ in id and positional arguments alone; None where they are not plain.

    Plain are texts, floats, integers of 64 bits, booleans and None, at most eight of them in a tuple.
    """

def uuids_of(random: bytes) -> list[str]:
    """Return a version 4 UUID for each 16 random bytes."""

def is_plain_json(text: bytes) -> bool:
    """Tell whether orjson reads a JSON text as kombu's decoder does, if it reads it at all.

    Texts with typed values (``__type__``), with letters written as escapes or with digits in a row that may not fit
    into 64 bits are not plain.
    """
