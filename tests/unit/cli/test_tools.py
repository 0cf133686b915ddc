"""``logtool``, ``upgrade settings``, arguments of remote commands, what detaching takes away, plug-ins, completion."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import click
import pytest
from celery.bin.celery import celery as stock
from celery.bin.upgrade import _compat_key, _to_new_key
from click.testing import CliRunner, Result

from pyworker.cli.detach import without_detachment
from pyworker.cli.main import cli
from pyworker.cli.plug_ins import load_plug_in, plug_ins
from pyworker.cli.remote_control import compile_arguments
from pyworker.cli.upgrade import new_names
from pyworker.operations.remote_commands import REMOTE_COMMANDS

LOG = """\
[2026-01-01 00:00:00,000: INFO/MainProcess] celery@vm ready.
[2026-01-01 00:00:00,001: INFO/MainProcess] Task tasks.add[id-1] received
[2026-01-01 00:00:00,002: INFO/MainProcess] Task tasks.add[id-2] received
[2026-01-01 00:00:00,003: INFO/MainProcess] Task tasks.fail[id-3] received
[2026-01-01 00:00:00,003: INFO/MainProcess] Task tasks.slow[id-4] received
[2026-01-01 00:00:00,004: INFO/ForkPoolWorker-1] Task tasks.add[id-1] succeeded in 0.001s: 3
[2026-01-01 00:00:00,005: INFO/ForkPoolWorker-1] Task tasks.add[id-2] succeeded in 0.001s: 5
[2026-01-01 00:00:00,006: ERROR/ForkPoolWorker-1] Task tasks.fail[id-3] raised unexpected: ValueError('no')
Traceback (most recent call last):
"""


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), prog_name="pyworker", auto_envvar_prefix="CELERY")


@pytest.mark.parametrize("command", ["stats", "traces", "errors", "incomplete", "debug"])
def test_log_is_read_as_celery_reads_it(command: str, tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_text(LOG)
    ours = invoke("logtool", command, str(log))
    assert ours.exit_code == 0, ours.output
    # Celery's own tool knows only how workers of version 3 told a receipt, so it is shown such a log.
    log.write_text("".join(_in_old_words(line) for line in LOG.splitlines(keepends=True)))
    theirs = CliRunner().invoke(stock, ["logtool", command, str(log)])
    assert _meaning(ours.output) == _meaning(theirs.output)


def _in_old_words(line: str) -> str:
    if "received" not in line:
        return line
    return line.replace("] Task ", "] Received task: ").replace(" received\n", " \n")


def _meaning(text: str) -> list[str]:
    return [_in_old_words(line + "\n").strip() for line in text.splitlines() if line.strip()]


def test_missing_log_is_an_error() -> None:
    assert invoke("logtool", "stats", "/no/such/log").exit_code == 2


SETTINGS = "BROKER_URL = 'redis://'\nCELERY_ACCEPT_CONTENT = ['json']\nCELERYD_CONCURRENCY = 4\nOTHER = 1\r\n"


@pytest.mark.parametrize("options", [[], ["--django"], ["--compat", "--no-backup"]])
def test_settings_are_renamed(options: list[str], tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.py", tmp_path / "theirs.py"
    for path in (ours, theirs):
        path.write_bytes(SETTINGS.encode())
    ran = invoke("upgrade", "settings", str(ours), *options)
    assert ran.exit_code == 0
    assert "Changes to your setting have been made!" in ran.output
    CliRunner().invoke(stock, ["upgrade", "settings", str(theirs), *options])
    assert ours.read_bytes() == theirs.read_bytes()
    assert (tmp_path / "ours.py.orig").exists() is ("--no-backup" not in options)
    if not options:
        assert "Does not seem to require any changes" in invoke("upgrade", "settings", str(ours)).output


def test_every_old_setting_gets_celerys_new_name() -> None:
    for keeps_prefix in (False, True):
        for old, new in new_names(keeps_prefix=keeps_prefix).items():
            changed, line = _to_new_key(old, *([_compat_key] if keeps_prefix else []))
            assert not changed or line == new, old


@pytest.mark.parametrize(
    ("name", "words", "arguments"),
    [
        ("ping", [], {}),
        ("pool_grow", ["3"], {"n": 3}),
        ("pool_grow", [], {}),
        ("time_limit", ["t", "1.5"], {"task_name": "t", "soft": 1.5}),
        ("revoke", ["a", "b"], {"task_id": ["a", "b"]}),
        ("terminate", ["KILL", "a"], {"signal": "KILL", "task_id": ["a"]}),
        ("conf", ["no"], {"with_defaults": False}),
    ],
)
def test_arguments_of_remote_commands(name: str, words: list[str], arguments: dict[str, object]) -> None:
    assert compile_arguments(REMOTE_COMMANDS[name], words) == arguments


@pytest.mark.parametrize(
    ("name", "words", "text"),
    [
        ("pool_grow", ["many"], "n cannot be 'many'"),
        ("pool_grow", ["1", "2"], r"takes arguments: \[N=1\]"),
        ("conf", ["perhaps"], "neither true nor false"),
    ],
)
def test_wrong_arguments_are_named(name: str, words: list[str], text: str) -> None:
    with pytest.raises(click.UsageError, match=text):
        compile_arguments(REMOTE_COMMANDS[name], words)


def test_words_after_a_command_without_arguments_are_ignored_aloud(capsys: pytest.CaptureFixture[str]) -> None:
    """Celery's ignores them in silence; a health check that has one too many goes on working."""
    assert compile_arguments(REMOTE_COMMANDS["ping"], ["x", "y"]) == {}
    assert "'ping' takes no arguments, ignored: x y" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("-A p worker --detach -c 2", "-A p worker -c 2"),
        ("worker -D --uid nobody --gid=7 --umask 022 -l info", "worker -l info"),
        ("--workdir /x worker -ED --executable=/usr/bin/python3", "worker -E"),
        ("worker -D -n D@h -QDefault --queues=-D", "worker -n D@h -QDefault --queues=-D"),
        ("worker -D -- -D --uid 3", "worker -- -D --uid 3"),
    ],
)
def test_detached_command_does_not_detach_again(words: str, kept: str) -> None:
    assert without_detachment(words.split()) == kept.split()


def test_plug_in_that_cannot_be_loaded_shows_why_when_it_is_used() -> None:
    broken = load_plug_in(EntryPoint("broken", "no_such_package.command:main", "celery.commands"))
    ran = CliRunner().invoke(broken, ["--any", "thing"])
    assert ran.exit_code == 1
    assert "no_such_package" in ran.output
    assert "not a command of click" in CliRunner().invoke(load_plug_in(EntryPoint("os", "os:sep", "x")), []).output


def test_plug_ins_of_both_groups_are_commands(tmp_path: Path) -> None:
    package = tmp_path / "plugged-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(
        "[celery.commands]\nflowery=plugged:flowery\n[pyworker.commands]\nown=plugged:own\n"
    )
    (tmp_path / "plugged.py").write_text(
        "import click\n"
        "@click.command()\n@click.pass_context\n"
        "def flowery(ctx):\n    ctx.obj.secho(ctx.obj.app.main, fg='red')\n    ctx.obj.error(ctx.obj.style('no'))\n"
        "@click.command()\ndef own():\n    click.echo('own')\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    apps = Path(__file__).parent / "apps"

    def run(*words: str) -> str:
        line = [sys.executable, "-m", "pyworker", *words]
        return subprocess.run(line, capture_output=True, text=True, env=environment, cwd=apps, check=True).stdout

    assert run("-A", "plain", "flowery") == "plain\n"
    assert run("own") == "own\n"
    assert "flowery" not in plug_ins()


@pytest.mark.parametrize(
    ("shell", "text"), [("bash", "_pyworker_completion"), ("zsh", "#compdef pyworker"), ("fish", "complete")]
)
def test_shells_complete_commands(shell: str, text: str) -> None:
    script = subprocess.run(
        [sys.executable, "-m", "pyworker"], capture_output=True, text=True, check=False,
        env=os.environ | {"_PYWORKER_COMPLETE": f"{shell}_source"},
    )  # fmt: skip
    assert text in script.stdout
    if shell == "bash":
        words = {"_PYWORKER_COMPLETE": "bash_complete", "COMP_WORDS": "pyworker ins", "COMP_CWORD": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "pyworker"], capture_output=True, text=True, check=False, env=os.environ | words
        )
        assert "inspect" in done.stdout


def test_misspelt_command_is_guessed() -> None:
    ran = invoke("insepct")
    assert ran.exit_code == 2
    assert "Did you mean one of these?\n    inspect" in ran.output
