"""The tutorial, page after page: its files are written, its workers started, its sessions run."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from support.kinds import Kind
from support.redis_server import RedisServer
from support.worker import WorkerProcess

PAGES = sorted((Path(__file__).resolve().parents[2] / "docs" / "tutorial").glob("*.md"))
OWN = Kind("pyworker-own", (sys.executable, "-m", "pyworker"), "fast")
_BLOCK = re.compile(r"(?:^`(?P<file>[^`\n]+)`:\n\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S)
_SESSION = """
import doctest, sys
text = sys.stdin.read()
test = doctest.DocTestParser().get_doctest(text, {"__name__": "__main__"}, "session", "page", 0)
runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.REPORT_ONLY_FIRST_FAILURE)
runner.run(test)
sys.exit(bool(runner.failures))
"""


class Block(NamedTuple):
    """A fenced block, with the name of the file that it is."""

    file: str | None
    language: str
    text: str


def blocks(page: Path, server: RedisServer) -> list[Block]:
    text = page.read_text().replace("redis://localhost:6379", server.url.rpartition("/")[0])
    return [Block(found["file"], found["language"], found["text"]) for found in _BLOCK.finditer(text)]


def start_worker(command: str, directory: Path, server: RedisServer) -> WorkerProcess:
    """Start what ``$ pyworker -A app worker ...`` says, with two children."""
    program, _, app, what, *options = shlex.split(command)
    assert (program, what) == ("pyworker", "worker"), f"not a worker: {command}"
    options = [option for option in options if not option.startswith("--loglevel")]
    environment = {"PYTHONPATH": str(directory)}
    return WorkerProcess(
        OWN, app, broker=server.url, options=("-c", "2", *options), environment=environment, directory=directory
    )


def run_session(text: str, directory: Path) -> None:
    """Run a session in an interpreter of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _SESSION],
        input=text,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(directory)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def write_file(block: Block, page: Path, directory: Path) -> None:
    assert block.file, f"{page.name}: a block of code without the name of its file"
    path = directory / block.file
    path.parent.mkdir(exist_ok=True)
    path.write_text(block.text)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_snippet_holds(page: Path, tmp_path: Path) -> None:
    """A page goes on with the files of those before it."""
    sessions = 0
    with RedisServer() as server, ExitStack() as workers:
        for earlier in PAGES[: PAGES.index(page)]:
            for block in blocks(earlier, server):
                if block.language == "python":
                    write_file(block, earlier, tmp_path)
        for block in blocks(page, server):
            if block.language == "python":
                write_file(block, page, tmp_path)
            elif block.language == "console":
                for line in block.text.splitlines():
                    workers.enter_context(start_worker(line.removeprefix("$ "), tmp_path, server))
            else:
                assert block.language == "pycon", f"{page.name}: nothing runs {block.language}"
                assert doctest.DocTestParser().get_examples(block.text)
                run_session(block.text, tmp_path)
                sessions += 1
    assert sessions >= 5


def test_no_page_is_missed() -> None:
    assert len(PAGES) == 3
