"""What ``-A`` finds, in which order, and what is raised when it finds nothing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from pyworker.worker.app_loading import find_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

APP = "from celery import Celery\n{name} = Celery('{main}', set_as_current=False)\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """A working directory to write modules to; forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)

    def write(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    yield write
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def test_attribute_app_comes_first(project: Callable[[str, str], None]) -> None:
    project("one.py", APP.format(name="celery", main="second") + APP.format(name="app", main="first"))
    assert find_app("one").main == "first"


def test_attribute_celery_comes_second(project: Callable[[str, str], None]) -> None:
    project("two.py", APP.format(name="other", main="third") + APP.format(name="celery", main="second"))
    assert find_app("two").main == "second"


def test_module_celery_of_a_package_comes_third(project: Callable[[str, str], None]) -> None:
    project("sub_package/__init__.py", APP.format(name="other", main="any"))
    project("sub_package/celery.py", APP.format(name="app", main="submodule"))
    assert find_app("sub_package").main == "submodule"


def test_any_application_of_the_module_comes_last(project: Callable[[str, str], None]) -> None:
    project("four.py", "number = 1\n" + APP.format(name="unusual", main="any"))
    assert find_app("four").main == "any"


def test_module_named_app_is_not_an_application(project: Callable[[str, str], None]) -> None:
    project("five/__init__.py", "from five import app, celery\n")
    project("five/app.py", "")
    project("five/celery.py", APP.format(name="celery", main="right"))
    assert find_app("five").main == "right"


@pytest.mark.parametrize("name", ["named_attribute.tasks:queue", "named_attribute.tasks.queue"])
def test_attribute_may_be_named(project: Callable[[str, str], None], name: str) -> None:
    project("named_attribute/__init__.py", "")
    project("named_attribute/tasks.py", APP.format(name="queue", main="named"))
    assert find_app(name).main == "named"


def test_dotted_name_may_be_a_module(project: Callable[[str, str], None]) -> None:
    project("seven/__init__.py", "")
    project("seven/work.py", APP.format(name="app", main="module"))
    assert find_app("seven.work").main == "module"


def test_working_directory_is_in_the_path_only_while_importing(project: Callable[[str, str], None]) -> None:
    project("eight.py", APP.format(name="app", main="x"))
    before = list(sys.path)
    find_app("eight")
    assert sys.path == before


def test_missing_module_is_named_in_the_error() -> None:
    with pytest.raises(ModuleNotFoundError) as caught:
        find_app("no_such_module_anywhere")
    assert caught.value.name == "no_such_module_anywhere"


def test_module_without_an_application_is_an_attribute_error(project: Callable[[str, str], None]) -> None:
    project("nine.py", "number = 1\n")
    with pytest.raises(AttributeError, match="module 'nine' has no attribute 'celery'"):
        find_app("nine")


def test_error_of_the_module_passes(project: Callable[[str, str], None]) -> None:
    project("ten.py", "1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        find_app("ten")
