"""The additions: abortable tasks, the network debugger, the Sphinx extension."""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap
import threading
from io import StringIO
from typing import TYPE_CHECKING

import pytest

from pyworker import Celery
from pyworker.contrib.abortable import ABORTED, AbortableAsyncResult, AbortableTask
from pyworker.contrib.rdb import Rdb
from pyworker.exceptions import ImproperlyConfigured
from support.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Side


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # sockets of the stock client
def test_a_task_sees_that_it_was_asked_to_stop(ours: Side, stock: Side) -> None:
    @ours.app.task(bind=True, base=AbortableTask, name="proj.long", shared=False)
    def long(self: AbortableTask[..., bool]) -> bool:
        return self.is_aborted()

    result = long.delay()
    assert isinstance(result, AbortableAsyncResult)
    assert not result.is_aborted()
    assert long.apply(task_id=result.id).get() is False
    result.abort()
    assert result.state == ABORTED
    assert long.apply(task_id=result.id).get() is True
    # A stock reader of the same store sees it as well.
    stock.app.conf.result_backend = ours.app.conf.result_backend
    assert stock.app.AsyncResult(result.id).state == ABORTED


def test_asking_needs_a_store() -> None:
    app = Celery("storeless", set_as_current=False)
    with pytest.raises(ImproperlyConfigured, match="result_backend"):
        AbortableAsyncResult("id", app=app).abort()


def test_the_debugger_is_reached_over_the_network() -> None:
    seen: list[object] = []
    port = free_port()
    told = StringIO()

    def talk() -> None:
        for _ in range(2000):
            try:
                client = socket.create_connection(("127.0.0.1", port), timeout=20)
                break
            except ConnectionRefusedError:
                threading.Event().wait(0.01)
        with client, client.makefile("rw") as stream:
            stream.write("p 40 + 2\ncontinue\n")
            stream.flush()
            seen.extend(stream.read().split())

    thread = threading.Thread(target=talk)
    thread.start()
    debugger = Rdb(port=port, out=told)
    assert debugger.active
    debugger.reset()
    debugger.setup(sys._getframe(), None)
    debugger.cmdloop()
    thread.join(30)
    assert "42" in seen
    assert not debugger.active
    assert sys.stdout is debugger._before[1]
    assert f"Ready to connect: telnet 127.0.0.1 {port}" in told.getvalue()


def test_tasks_are_documented_as_functions(tmp_path: Path) -> None:
    (tmp_path / "documented.py").write_text(
        textwrap.dedent(
            '''
            """A module."""
            from pyworker import Celery
            app = Celery("documented")

            @app.task
            def add(x: int, y: int = 2) -> int:
                """Add two numbers."""

            @app.task(bind=True)
            def bound(self, name: str) -> None:
                """Has no self for callers."""
            '''
        )
    )
    (tmp_path / "conf.py").write_text(
        "import sys; sys.path.insert(0, '.')\nextensions = ['sphinx.ext.autodoc', 'pyworker.contrib.sphinx']\n"
        "celery_task_prefix = '(job)'\n"
    )
    (tmp_path / "index.rst").write_text("Title\n=====\n\n.. automodule:: documented\n   :members:\n")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-b", "text", ".", "out"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "out" / "index.txt").read_text()
    assert "(job) documented.add(x: int, y: int = 2) -> int" in text.replace("*", "").replace("\n", "")
    assert "Add two numbers." in text
    assert "documented.bound(name: str)" in text.replace("*", "")
