"""What the command says and how it exits when it is given something it cannot use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pyworker.cli.main import cli

APPS = Path(__file__).parent / "apps"


@pytest.fixture(autouse=True)
def _in_the_directory_of_the_apps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(APPS)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), prog_name="pyworker", auto_envvar_prefix="CELERY")


def words(result: Result) -> str:
    """The output without the wrapping."""
    return " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "option", "reason"),
    [
        (["-B"], "-B/--beat", "celery -A proj beat"),
        (["--beat"], "-B/--beat", "celery -A proj beat"),
        (["-s", "x"], "--schedule-filename", "not supported yet"),
        (["--scheduler", "x"], "--scheduler", "not supported yet"),
        (["-P", "gevent"], "-P/--pool", "the gevent pool is not supported yet"),
        (["-P", "threads"], "-P/--pool", "the threads pool is not supported yet"),
        (["-P", "swimming"], "-P/--pool", "there is no pool 'swimming'"),
        (["--pool-start-method", "spawn"], "--pool-start-method", "spawn is not supported"),
        (["-P", "solo", "--time-limit", "1"], "-P/--pool", "--time-limit"),
        (["-P", "solo", "--max-tasks-per-child", "1"], "-P/--pool", "--max-tasks-per-child"),
    ],
)
def test_option_without_effect_is_refused_with_its_reason(arguments: list[str], option: str, reason: str) -> None:
    result = invoke("-A", "plain", "worker", *arguments)
    assert result.exit_code == 2
    assert option in words(result)
    assert reason in words(result)


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["-c", "-1"], "--concurrency"),
        (["-c", "many"], "--concurrency"),
        (["--time-limit", "-1"], "--time-limit"),
        (["--time-limit", "nan"], "--time-limit"),
        (["--soft-time-limit", "soon"], "--soft-time-limit"),
        (["--max-tasks-per-child", "-5"], "--max-tasks-per-child"),
        (["--max-memory-per-child", "1.5"], "--max-memory-per-child"),
        (["--prefetch-multiplier", "-1"], "--prefetch-multiplier"),
        (["--loglevel", "loud"], "--loglevel"),
        (["-O", "best"], "--optimization"),
        (["-n", "w1@%x"], "--hostname"),
        (["--pidfile", "/run/%x"], "--pidfile"),
    ],
)
def test_value_out_of_range_names_the_option(arguments: list[str], option: str) -> None:
    result = invoke("-A", "plain", "worker", *arguments)
    assert result.exit_code == 2
    assert f"Invalid value for {option}" in words(result).replace("'", "").replace("-c / ", "").replace(
        "-l / ", ""
    ).replace("-O / ", "").replace("-n / ", "")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("no_such_module", "The module no_such_module was not found."),
        ("broken", "While trying to load the module broken the following error occurred:"),
        ("imports_missing", "While trying to load the module imports_missing the following error occurred:"),
        ("empty", "Module 'empty' has no attribute 'celery'"),
        ("plain:nothing", "The module plain:nothing was not found."),
        ("plain:number", "1 is not a Celery application"),
    ],
)
def test_application_that_cannot_be_loaded_is_a_usage_error(name: str, text: str) -> None:
    result = invoke("-A", name, "worker")
    assert result.exit_code == 2
    assert result.output.startswith("Usage: pyworker")
    assert "Unable to load celery application." in result.output
    assert text in words(result)


def test_error_of_the_module_is_shown_with_its_traceback() -> None:
    assert "ZeroDivisionError: division by zero" in invoke("-A", "broken", "worker").output


def test_application_after_the_command_is_explained() -> None:
    result = invoke("-A", "plain", "worker", "-A", "plain")
    assert result.exit_code == 2
    assert "-A. It is a global option" in words(result)


def test_commands_of_celery_are_pointed_to() -> None:
    result = invoke("-A", "plain", "beat")
    assert result.exit_code == 2
    assert "Use `celery beat`" in words(result)


def test_directory_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    result = invoke("--workdir", str(tmp_path / "nowhere"), "-A", "plain", "status")
    assert result.exit_code == 2
    assert f"'--workdir': '{tmp_path / 'nowhere'}': No such file or directory" in words(result)


@pytest.fixture
def _environment_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command hands global options to the application in variables."""
    for name in ("CELERY_CONFIG_MODULE", "CELERY_LOADER"):
        monkeypatch.setenv(name, "")


@pytest.mark.usefixtures("_environment_restored")
def test_settings_come_from_the_module_that_is_named() -> None:
    assert "of-the-module" in invoke("-A", "own", "--config", "settings_module", "report").output


@pytest.mark.usefixtures("_environment_restored")
def test_loader_of_an_application_that_has_none_is_refused() -> None:
    result = invoke("-A", "own", "--loader", "some.Loader", "report")
    assert result.exit_code == 2
    assert "Invalid value for --loader" in words(result)


def test_one_command_of_the_broker_shell_fails_without_a_broker() -> None:
    result = invoke("-A", "plain", "-b", "redis://127.0.0.1:1/0", "amqp", "queue.declare", "one")
    assert result.exit_code == 69
    assert "Connection refused" in result.stderr
    assert "OK" not in result.output


def test_unknown_command_is_an_error() -> None:
    assert invoke("-A", "plain", "work").exit_code == 2


def test_extra_settings_that_do_not_parse_are_a_usage_error() -> None:
    result = invoke("-A", "plain", "worker", "--", "worker.no_such_setting=1")
    assert result.exit_code == 2
    assert "Unable to parse extra configuration from command line." in result.output


def test_version_is_shown() -> None:
    result = invoke("--version")
    assert result.exit_code == 0
    assert result.output.startswith("pyworker ")


def test_command_without_arguments_shows_its_help() -> None:
    result = invoke()
    assert result.exit_code == 0
    assert "Global Options" in result.output
    for command in ("worker", "check", "bench", "demo"):
        assert f"  {command} " in result.output


def test_check_shows_lanes_and_reasons() -> None:
    result = invoke("-A", "plain", "check", "--json")
    assert result.exit_code == 0, result.output
    tasks = {task["name"]: task for task in json.loads(result.stdout)["tasks"]}
    assert tasks["plain.add"]["lane"] == "fast"
    assert tasks["plain.add"]["reasons"] == []
    assert tasks["plain.called"]["lane"] == "library"
    assert tasks["plain.called"]["reasons"]


def test_check_prints_a_table() -> None:
    result = invoke("-A", "plain", "check")
    assert result.exit_code == 0
    assert "plain.add" in result.output
    assert "library" in result.output


@pytest.mark.parametrize("bounds", ["few", "1,2,3", "0", "3,-1", ""])
def test_bounds_of_the_pool_are_numbers(bounds: str) -> None:
    result = invoke("-A", "plain", "worker", "--autoscale", bounds)
    assert result.exit_code == 2
    assert "--autoscale" in result.output
