"""The options of ``pyworker worker`` beside those of the installed ``celery worker``."""

from __future__ import annotations

import click
import pytest
from celery.bin.celery import celery as celery_command
from celery.bin.worker import worker as celery_worker
from click.testing import CliRunner, Result

from pyworker.cli.main import cli
from pyworker.cli.worker import worker


def _spellings(command: click.Command) -> dict[str, tuple[set[str], bool]]:
    """Every option string with all strings of its option and whether it is a flag."""
    found: dict[str, tuple[set[str], bool]] = {}
    for param in command.params:
        if isinstance(param, click.Option):
            strings = {*param.opts, *param.secondary_opts}
            found |= dict.fromkeys(strings, (strings, param.is_flag))
    return found


def _invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), prog_name="pyworker", auto_envvar_prefix="CELERY")


@pytest.mark.parametrize("string", sorted(_spellings(celery_worker)))
def test_worker_knows_every_option_of_celery_in_the_same_spelling(string: str) -> None:
    assert _spellings(worker)[string] == _spellings(celery_worker)[string]


@pytest.mark.parametrize("string", sorted(_spellings(celery_command)))
def test_command_knows_every_global_option_of_celery(string: str) -> None:
    assert _spellings(cli)[string] == _spellings(celery_command)[string]


@pytest.mark.parametrize("name", sorted(str(param.name) for param in celery_worker.params))
def test_parameters_have_celerys_names_so_that_its_environment_variables_work(name: str) -> None:
    assert name in {param.name for param in worker.params}


def test_global_options_read_celerys_environment_variables() -> None:
    ours = {param.name: param.envvar for param in cli.params}
    theirs = {param.name: param.envvar for param in celery_command.params}
    assert {name: ours[name] for name in theirs} == theirs


def test_help_lists_celerys_groups_in_its_order() -> None:
    text = _invoke("worker", "--help").output
    headings = [line.rstrip(":") for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == [
        "Worker Options",
        "Pool Options",
        "Queue Options",
        "Features",
        "Embedded Beat Options",
        "Daemonization Options",
        "Options",
    ]
