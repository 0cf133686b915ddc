"""The grammar of ``multi``: the command of every node is the one that ``celery multi`` would run."""

from __future__ import annotations

import io
import shlex
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from celery.bin.multi import MultiTool
from click.testing import CliRunner, Result

from pyworker.cli.main import cli
from pyworker.multi.node import signal_number
from support.processes import is_alive
from support.waiting import eventually

FILES = "--pidfile={0}/%n.pid --logfile={0}/%n%I.log"


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["multi", *arguments], prog_name="pyworker", auto_envvar_prefix="CELERY")


def stock(*arguments: str) -> str:
    out = io.StringIO()
    with redirect_stdout(out):
        MultiTool(stdout=out, nosplash=True).execute_from_commandline(["multi", *arguments])
    return out.getvalue()


def commands(text: str) -> list[list[str]]:
    """Command lines as lists of words, ours with Celery's module name."""
    return [shlex.split(line.replace("-m pyworker", "-m celery")) for line in text.splitlines()]


@pytest.mark.parametrize(
    "line",
    [
        "3 -c 3",
        "3 -c 3 -c:1 10",
        "5 -c 3 -c:1-3 10",
        "5 -c 3 -c:1,3 10",
        "5 -c 3 -c:2-9 10",
        "10 -l INFO -Q:1-3 images,video -Q:4,5 data -Q default -L:4,5 DEBUG",
        "image video data -c 3 -c:image 10",
        "image video data -c 3 -c:image,data 10 -E",
        "image video data -Q:1 first -Q:3 last",
        "foo-bar baz -c:foo-bar 4",
        "foo@w.example.com bar@%h -c:foo@w.example.com 4",
        "2 --hostname=worker.example.com",
        "2 --range-prefix=w --suffix=x.y",
        "a b --prefix=p- -A proj --workdir=/tmp -b redis://h/1",
        "a --loglevel=INFO --time-limit:a=300 -- --x y",
        "a --append=more --queues=%n",
    ],
)
def test_commands_are_celerys(line: str, tmp_path: Path) -> None:
    words = [*line.split(), *FILES.format(tmp_path).split()]
    if "--" in words:
        words = [*words[-2:], *words[:-2]]
        words = [words[2], *words[:2], *words[3:]]
    ours = invoke("show", *words)
    assert ours.exit_code == 0, ours.output
    # Celery puts global options in the reverse order.
    assert [sorted(each) for each in commands(ours.output)] == [
        sorted(each) for each in commands(stock("show", *words))
    ]
    assert invoke("names", *words).output == stock("names", *words)
    template = "%n %N %h %p %d %i %%"
    assert invoke("expand", template, *words).output == stock("expand", template, *words)


def test_global_options_before_the_command_go_to_every_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent / "apps")
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://:secret@nowhere/0")
    line = ["-A", "plain", "--config=conf", "multi", "show", "w1", *FILES.format(tmp_path).split()]
    ran = CliRunner().invoke(cli, line, prog_name="pyworker", auto_envvar_prefix="CELERY")
    assert ran.exit_code == 0, ran.output
    [words] = commands(ran.output)
    assert words[1:6] == ["-m", "celery", "-A", "plain", "--config=conf"]
    assert "secret" not in ran.output


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ("show 2 -c:3 4", 2, "No node at index '3'"),
        ("show a -c:0 4", 2, "Indexes start at 1"),
        ("show 3 -c:1-x 4", 2, "'1-x' is no range"),
        ("expand %x 2", 2, "Unknown format %x"),
        ("frobnicate 3", 1, "Invalid command: frobnicate"),
        ("", 1, "usage: multi start"),
        ("get nobody@nowhere 2", 1, ""),
        ("get", 2, "needs the name"),
        ("help", 0, "usage: multi start"),
    ],
)
def test_wrong_lines_say_so(line: str, code: int, text: str, tmp_path: Path) -> None:
    words = line.split()
    files = FILES.format(tmp_path).split() if words[:1] in (["show"], ["expand"], ["get"]) and len(words) > 1 else []
    ran = invoke(*words, *files)
    assert ran.exit_code == code
    assert text in ran.output


def test_help_keeps_its_lines() -> None:
    lines = invoke("--help").output.splitlines()
    assert "         multi get hostname <n1 n2 nN|range> [worker options]" in lines
    assert "      * --quiet:      Say less." in lines


def test_nodes_without_a_process_are_down(tmp_path: Path) -> None:
    for verb in ("stop", "stopwait", "kill"):
        ran = invoke(verb, "2", *FILES.format(tmp_path).split())
        assert ran.exit_code == 0
        assert ran.output.count("DOWN") == 2
    (tmp_path / "celery1.pid").write_text("nonsense\n")
    assert "DOWN" in invoke("stop", "1", *FILES.format(tmp_path).split()).output


LINGERING = """
import os, signal, sys, time
file = sys.argv[1]
def end(*_):
    os.remove(file)
    time.sleep(0.5)
    os._exit(0)
signal.signal(signal.SIGTERM, end)
with open(file + ".new", "w") as new:
    new.write(f"{os.getpid()}\\n")
os.rename(file + ".new", file)
while True:
    signal.pause()
"""


def test_a_node_is_gone_when_its_process_is(tmp_path: Path) -> None:
    """Not when its pid file is; and a zombie is gone, as the first process of a container may reap nobody."""
    file = tmp_path / "w1.pid"
    with subprocess.Popen([sys.executable, "-c", LINGERING, file]) as process:
        eventually(file.exists, what="the pid file")
        result = invoke("stopwait", "w1", f"--pidfile={tmp_path}/%n.pid")
        assert result.exit_code == 0
        assert f"TERM -> {process.pid}" in result.stdout
        assert not is_alive(process.pid)


def test_directories_are_made_by_start_alone(tmp_path: Path) -> None:
    place = tmp_path / "run"
    invoke("show", "1", *FILES.format(place).split())
    assert not place.exists()


@pytest.mark.parametrize(
    ("word", "number"), [("-9", 9), ("-KILL", 9), ("-SIGINT", 2), ("-c", None), ("TERM", None), ("-", None)]
)
def test_signals_are_read(word: str, number: int | None) -> None:
    assert signal_number(word) == number
