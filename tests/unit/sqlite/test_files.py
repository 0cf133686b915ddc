"""Files that are not ours to use, URLs, forks, and who wakes whom."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from pyworker._native import NativeError, SqliteConsumer, SqliteFile
from pyworker.exceptions import ImproperlyConfigured
from pyworker.transport.sqlite_url import parse_sqlite_url, url_of
from pyworker.worker.sqlite_config import SqliteAddress


def file_in(folder: Path) -> SqliteFile:
    return SqliteFile(SqliteAddress(path=str(folder / "queue.db")))


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////var/lib/queue.db", "/var/lib/queue.db"),
        ("sqlite:///queue.db", os.path.join(os.getcwd(), "queue.db")),
        ("sqlite:////tmp/with%20space.db", "/tmp/with space.db"),
    ],
)
def test_urls_name_files(url: str, path: str) -> None:
    assert parse_sqlite_url(url, setting="broker_url").path == path


def test_options_come_from_the_url_and_the_settings() -> None:
    address = parse_sqlite_url("sqlite:////x.db?durable=0", setting="broker_url", options={"busy_timeout": 9})
    assert (address.durable, address.busy_timeout_s) == (False, 9.0)
    assert parse_sqlite_url(url_of(address), setting="broker_url", options={"busy_timeout": 9}) == address


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("sqlite://", "names no file"),
        ("sqlite://host/queue.db", "has no host"),
        ("sqlite:////tmp/", "names no file"),
        ("sqlite:////x.db?busy_timeout=soon", "no number of seconds"),
    ],
)
def test_malformed_urls_are_refused_by_name(url: str, complaint: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"broker_url.*{complaint}"):
        parse_sqlite_url(url, setting="broker_url")


def test_memory_is_one_file_for_all_who_name_it() -> None:
    first, second = (parse_sqlite_url("memory://jobs", setting="broker_url") for _ in range(2))
    assert first == second
    assert not first.durable
    assert parse_sqlite_url("memory://", setting="broker_url").path != first.path


def test_another_programs_file_is_left_untouched(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE accounts (name TEXT)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(NativeError, match="another program") as refusal:
        file_in(tmp_path)
    assert refusal.value.kind == "config"
    assert path.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["queue.db"]


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "queue.db").write_bytes(b"PK\x03\x04 certainly no database, but long enough to be one" * 40)
    with pytest.raises(NativeError, match="not a database") as refusal:
        file_in(tmp_path)
    assert refusal.value.kind == "config"


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    file_in(tmp_path).close()
    with sqlite3.connect(tmp_path / "queue.db") as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(NativeError, match=r"newer pyworker \(schema 99"):
        file_in(tmp_path)


@pytest.mark.parametrize(
    ("path", "complaint"), [("/nonexistent/queue.db", "folder does not exist"), ("/proc", "is a folder")]
)
def test_places_that_cannot_be_are_refused(path: str, complaint: str) -> None:
    with pytest.raises(NativeError, match=complaint):
        SqliteFile(SqliteAddress(path=path))


def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    # Of another user, because root may write everywhere.
    code = (
        "import os, sys; os.setgid(65534); os.setuid(65534)\n"
        "from pyworker._native import SqliteFile, NativeError\n"
        "from pyworker.worker.sqlite_config import SqliteAddress\n"
        "try: SqliteFile(SqliteAddress(path=sys.argv[1]))\n"
        "except NativeError as error: print(error.kind, error)\n"
    )
    if os.getuid() != 0:
        code = code.partition("\n")[2]
        tmp_path.chmod(0o500)
    folder = "/" if os.getuid() == 0 else str(tmp_path)
    code = "from pyworker import _native\nfrom pyworker.worker import sqlite_config\n" + code
    done = subprocess.run(
        [sys.executable, "-c", code, f"{folder}/queue-of-nobody.db"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("config")
    assert "read-only" in done.stdout


def test_a_side_file_of_another_user_is_refused(tmp_path: Path) -> None:
    # Without it a node would count as dead for those who have it.
    file_in(tmp_path).close()
    is_root = os.getuid() == 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "queue.db"
        (tmp_path / "queue.db").rename(path)
        side = Path(f"{path}-bell")
        side.touch()
        side.chmod(0o600 if is_root else 0o400)
        if is_root:
            Path(folder).chmod(0o777)
            path.chmod(0o666)
        code = (
            "from pyworker._native import SqliteFile, NativeError\n"
            "from pyworker.worker.sqlite_config import SqliteAddress\n"
            "import os, sys\n"
            "if os.getuid() == 0: os.setgid(65534); os.setuid(65534)\n"
            "try: SqliteFile(SqliteAddress(path=sys.argv[1]))\n"
            "except NativeError as error: print(error.kind, error)\n"
        )
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"config sqlite: {side}: is not to be written by this user")


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path) -> None:
    # A limit on the size of files is what a full disk looks like from inside.
    code = (
        "import resource, signal, sys\n"
        "from pyworker._native import SqliteFile, NativeError\n"
        "from pyworker.worker.sqlite_config import SqliteAddress\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "file = SqliteFile(SqliteAddress(path=sys.argv[1]))\n"
        "file.publish('q', 0, b'first')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
        "done = 1\n"
        "try:\n"
        "    for _ in range(100):\n"
        "        file.publish('q', 0, b'x' * 10_000); done += 1\n"
        "except NativeError as error: print(done, error.kind, error.retryable)\n"
    )
    path = tmp_path / "queue.db"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    published, kind, retryable = done.stdout.split()
    assert (kind, retryable) == ("resource", "True")
    file = file_in(tmp_path)
    assert file.size("q") == int(published)
    assert file.problems() == []


def test_a_fork_neither_inherits_locks_nor_breaks_them(tmp_path: Path) -> None:
    file = file_in(tmp_path)
    stop = threading.Event()
    published = [0]

    def publish() -> None:
        while not stop.is_set():
            file.publish("q", 0, b"parent")
            published[0] += 1

    publishers = [threading.Thread(target=publish) for _ in range(2)]
    for publisher in publishers:
        publisher.start()
    children = 8
    for _ in range(children):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for _ in range(5):
                    file.publish("q", 0, b"child")
                code = 0 if file.size("q") >= 5 else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    stop.set()
    for publisher in publishers:
        publisher.join()
    bodies = [body for *_rest, body in SqliteConsumer(file, "test", 60.0).fetch([("q", False)], 1_000_000)]
    assert bodies.count(b"child") == 5 * children
    assert file.problems() == []


def test_who_waits_is_woken_by_another_process(tmp_path: Path) -> None:
    file = file_in(tmp_path)
    seen = file.seen("results")
    pid = os.fork()
    if pid == 0:
        try:
            file.set(b"key", b"value", is_success=True)
        finally:
            os._exit(0)
    # Far longer than anything but a ring.
    while file.get_many([b"key"]) == [None]:
        assert file.wait("results", seen, [b"key"], 60.0)
        seen = file.seen("results")
    os.waitpid(pid, 0)


def test_a_stored_success_stays(tmp_path: Path) -> None:
    file = file_in(tmp_path)
    file.set(b"key", b"done", is_success=True, protected=True)
    file.set(b"key", b"late", protected=True)
    assert file.get_many([b"key", b"other"]) == [b"done", None]
    file.set(b"key", b"forced")
    assert file.get_many([b"key"]) == [b"forced"]


def test_expired_results_are_gone_and_deleted(tmp_path: Path) -> None:
    file = file_in(tmp_path)
    file.set(b"short", b"1", expires_s=-1)
    file.set(b"long", b"2", expires_s=1000)
    assert file.get_many([b"short", b"long"]) == [None, b"2"]
    file.tidy()
    with sqlite3.connect(tmp_path / "queue.db") as other:
        assert other.execute("SELECT count(*) FROM results").fetchone() == (1,)
    other.close()


def test_messages_of_a_dead_consumer_return_counted(tmp_path: Path) -> None:
    file = file_in(tmp_path)
    file.publish("q", 0, b"message")
    pid = os.fork()
    if pid == 0:
        try:
            SqliteConsumer(file, "doomed", 3600.0).fetch([("q", False)], 1)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert [
        (deliveries, body) for _, _, deliveries, body in SqliteConsumer(file, "heir", 60.0).fetch([("q", False)], 5)
    ] == [(1, b"message")]
