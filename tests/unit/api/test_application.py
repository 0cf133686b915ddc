"""Applications: who is current, when settings load, where tasks come from, several side by side."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import celery
import pytest

import pyworker
from pyworker import Celery, Task, shared_task
from pyworker.app import app_or_default
from pyworker.exceptions import DuplicateTaskNameWarning, ImproperlyConfigured, NotRegistered

if TYPE_CHECKING:
    from pathlib import Path


def make_app(name: str = "application", **options: Any) -> Celery:
    """An app that leaves this process's current one alone."""
    return Celery(name, set_as_current=False, **options)


def run(source: str, folder: Path, **environment: str) -> Any:
    """Run a program in a fresh interpreter and return the JSON that it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(source)],
        capture_output=True, text=True, cwd=folder, check=False, env={"PATH": "/usr/bin", **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_current_app_and_task_mean_what_is_current_when_used(tmp_path: Path) -> None:
    seen = run(
        """
        import json
        from pyworker import Celery, current_app, current_task
        from pyworker.exceptions import ImproperlyConfigured
        seen = [bool(current_app), bool(current_task), repr(current_app), repr(current_task)]
        for use in (lambda: current_app.conf, lambda: current_task.request):
            try:
                use()
            except (ImproperlyConfigured, AttributeError) as error:
                seen.append(type(error).__name__)
        first = Celery("first")
        seen.append([current_app.main, current_app == first])
        second = Celery("second")
        @second.task
        def show():
            return [current_task.name, bool(current_task), current_task.request.id is not None, current_task == show]
        seen.append(current_app.main)
        seen.append(show.apply().get())
        first.set_current()
        seen.append([current_app.main, current_app.tasks is first.tasks])
        current_app.main = "renamed"
        seen.append(first.main)
        print(json.dumps(seen))
        """,
        tmp_path,
    )
    assert seen == [
        False, False, "<current_app: none>", "<current_task: none>", "ImproperlyConfigured", "AttributeError",
        ["first", True], "second", ["second.show", True, True, True], ["first", True], "renamed",
    ]  # fmt: skip


def test_app_or_default() -> None:
    app = make_app()
    assert app_or_default(app) is app


def test_settings_load_when_first_read_and_say_so() -> None:
    app = make_app()
    events: list[Any] = []
    app.on_configure.connect(lambda **_: events.append("before"), weak=False)

    @app.on_after_configure.connect
    def configured(sender: Celery, source: Any, **_: Any) -> None:
        events.append(("after", source.task_default_queue))
        sender.add_periodic_task(10.0, add.s(1, 2), name="often", expires=5)

    @app.task(shared=False, rate_limit="1/s")
    def add(x: int, y: int) -> int:
        return x + y

    app.add_periodic_task(30.0, add.s(3, 4))
    app.config_from_object({"task_default_queue": "other", "task_annotations": {"*": {"rate_limit": "9/m"}}})
    assert events == []
    assert not app.configured
    assert app.conf.task_default_queue == "other"
    assert events == ["before", ("after", "other")]
    entries = app.conf.beat_schedule
    assert entries["often"] == {
        "schedule": 10.0, "task": add.name, "args": (1, 2), "kwargs": {}, "options": {"expires": 5},
    }  # fmt: skip
    assert entries[f"{add.name}(3, 4)"]["schedule"] == 30.0
    assert make_app().conf.beat_schedule == {}
    app.finalize()
    assert add.rate_limit == "9/m"


def test_annotations_count_for_the_first_message_too() -> None:
    app = make_app(task_annotations={"annotated": {"queue": "theirs", "@shown": lambda old: f"{old}!"}})

    @app.task(name="annotated", shared=False, shown="text")
    def task() -> None: ...

    app.finalize()
    assert (task.queue, task.shown) == ("theirs", "text!")  # type: ignore[attr-defined]


def test_finalize_is_announced_once_with_every_task_there() -> None:
    app = make_app()
    seen: list[bool] = []

    @app.on_after_finalize.connect
    def finalized(sender: Celery, **_: Any) -> None:
        seen.append("celery.ping" in sender.tasks)

    assert not app.finalized
    assert "celery.chord" not in app.registry
    app.finalize()
    assert app.tasks["celery.ping"].name == "celery.ping"
    assert app.finalized
    assert seen == [True]


def test_unknown_tasks_are_celerys_error() -> None:
    with pytest.raises(NotRegistered):
        make_app().tasks["no such task"]


def test_tasks_are_shared_unless_they_say_otherwise() -> None:
    first, second = make_app("first"), make_app("second")
    first.task(name="sharing.everybodys")(lambda: 1)
    first.task(name="sharing.mine", shared=False)(lambda: 1)
    assert "sharing.everybodys" in second.tasks
    assert "sharing.mine" not in second.tasks
    assert second.tasks["sharing.everybodys"].app is second


def test_a_shared_task_is_that_of_the_current_app(tmp_path: Path) -> None:
    seen = run(
        """
        import json
        from pyworker import Celery, Task, shared_task
        @shared_task(bind=True, name="library.show")
        def show(self, x):
            return [self.app.main, x, show.request.id == self.request.id, type(self).__mro__[1].__mro__[1].__name__]
        class Own(Task):
            def apply_async(self, *args, **options):
                return "own"
            def extra(self):
                return self.app.main
        seen = [show.name]
        first = Celery("first", task_cls=Own)
        seen += [show.apply((1,)).get()[:3], show.delay(1), show.extra()]
        second = Celery("second")
        seen += [show.apply((2,)).get()[:3], hasattr(show, "extra"), second.tasks["library.show"].app.main]
        print(json.dumps(seen))
        """,
        tmp_path,
    )
    assert seen == ["library.show", ["first", 1, True], "own", "first", ["second", 2, True], False, "second"]


def test_a_shared_task_can_be_called_without_any_app(tmp_path: Path) -> None:
    source = "from pyworker import shared_task\n@shared_task\ndef add(x, y): return x + y\nprint(add(1, 2))"
    assert run(source, tmp_path) == 3


def test_two_functions_of_one_name_warn_and_the_first_stays() -> None:
    app = make_app()

    def first() -> int:
        return 1

    def second() -> int:
        return 2

    task = app.task(name="taken", shared=False)(first)
    assert app.task(name="taken", shared=False)(first) is task
    with pytest.warns(DuplicateTaskNameWarning, match="'taken' is taken by .*first; .*second wants it too"):
        again = app.task(name="taken", shared=False)(second)
    assert again is task
    assert again() == 1


def test_a_class_based_task_replaces_with_a_warning() -> None:
    app = make_app()

    class Old(Task):
        name = "class based"

        def run(self, x: int) -> int:
            return x

    class New(Old):
        def run(self, x: int) -> int:
            return x + 1

    app.register_task(Old())
    with pytest.warns(DuplicateTaskNameWarning, match="replaces"):
        app.register_task(New, rate_limit="2/s")
    assert app.tasks["class based"](1) == 2
    assert app.tasks["class based"].rate_limit == "2/s"
    with pytest.raises(TypeError):
        app.tasks["class based"].check_arguments((), {})


def test_the_base_class_may_be_named_or_replaced(tmp_path: Path) -> None:
    (tmp_path / "bases.py").write_text("from pyworker import Task\nclass Base(Task):\n    mine = 1\n")
    source = """
        import sys, json; sys.path.insert(0, ".")
        from pyworker import Celery
        app = Celery("x", task_cls="bases:Base")
        task = app.task(lambda: None, name="x")
        class Other(app.Task):
            mine = 2
        app.Task = Other
        print(json.dumps([task.mine, app.task(lambda: None, name="y").mine]))
        """
    assert run(source, tmp_path) == [1, 2]
    with pytest.raises(ImproperlyConfigured, match="no_such:Class"):
        make_app(task_cls="no_such:Class").task(name="z")(lambda: None)


def test_names_can_be_made_otherwise() -> None:
    class Renaming(Celery):
        def gen_task_name(self, name: str, module: str) -> str:
            return f"short.{name}"

    app = Renaming(set_as_current=False)

    @app.task(shared=False)
    def found() -> None: ...

    assert found.name == "short.found"


def test_autodiscovery_imports_when_the_worker_does(tmp_path: Path) -> None:
    for package, module in (("one", "tasks"), ("two", "jobs"), ("three", None)):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
        if module:
            text = "from pyworker import shared_task\n@shared_task\ndef found(): ...\n"
            (tmp_path / package / f"{module}.py").write_text(text)
    (tmp_path / "four").mkdir()
    (tmp_path / "four" / "__init__.py").touch()
    (tmp_path / "four" / "tasks.py").write_text("import no_such_module\n")
    seen = run(
        """
        import sys, json; sys.path.insert(0, ".")
        from pyworker import Celery
        from pyworker.signals import import_modules
        app = Celery("x")
        app.autodiscover_tasks(lambda: ["one", "three"])
        app.autodiscover_tasks(["two"], related_name="jobs")
        seen = ["one.tasks.found" in app.tasks]
        import_modules.send(sender=app)
        seen.append(sorted(name for name in app.tasks if name.endswith("found")))
        try:
            app.autodiscover_tasks(["four"], force=True)
        except ModuleNotFoundError as error:
            seen.append(error.name)
        print(json.dumps(seen))
        """,
        tmp_path,
    )
    assert seen == [False, ["one.tasks.found", "two.jobs.found"], "no_such_module"]


@pytest.mark.parametrize("package", ["broken", "nowhere", "no.where"])
def test_module_of_tasks_that_cannot_be_imported_stops_the_worker(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "__init__.py").touch()
    (tmp_path / "broken" / "tasks.py").write_text("import nowhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    app = make_app()
    app.autodiscover_tasks([package])
    with pytest.raises(ModuleNotFoundError, match="No module named 'no"):
        app.loader.import_default_modules()


def test_modules_of_the_working_directory_are_found_by_name(tmp_path: Path) -> None:
    """Also by the script of the command, whose ``sys.path`` begins with its own directory."""
    (tmp_path / "of_settings.py").write_text("imports = ('of_tasks',)\ntask_default_queue = 'here'\n")
    (tmp_path / "of_tasks.py").write_text("from pyworker import shared_task\n@shared_task\ndef found(): ...\n")
    (tmp_path / "more.py").write_text("from pyworker import shared_task\n@shared_task\ndef also_found(): ...\n")
    seen = run(
        """
        import sys, json
        sys.path.remove("")
        from pyworker import Celery
        app = Celery("x", config_source="of_settings")
        app.loader.import_default_modules(["more"])
        print(json.dumps([app.conf.task_default_queue, "of_tasks.found" in app.tasks, "more.also_found" in app.tasks]))
        """,
        tmp_path,
    )
    assert seen == ["here", True, True]


def test_threads_define_and_find_tasks_at_the_same_time() -> None:
    app = make_app()
    gate = threading.Barrier(8)

    def define(index: int) -> None:
        gate.wait()
        for number in range(50):
            app.task(name=f"threads.{index}.{number}", shared=False)(lambda: None)
            assert app.tasks[f"threads.{index}.{number}"].rate_limit is None

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(define, range(8)))
    assert len([name for name in app.tasks if name.startswith("threads.")]) == 400


def test_settings_are_loaded_once_by_many_threads() -> None:
    app = make_app()
    loads: list[int] = []
    app.on_configure.connect(lambda **_: loads.append(1), weak=False)
    app.config_from_object({"worker_concurrency": 3})
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(lambda _: app.conf.worker_concurrency, range(64))) == {3}
    assert loads == [1]


def test_tasks_and_apps_pickle() -> None:
    app = make_app("pickled", task_default_queue="q")
    again = pickle.loads(pickle.dumps(app))
    assert (again.main, again.conf.task_default_queue) == ("pickled", "q")


def test_worker_main_wants_the_command() -> None:
    with pytest.raises(ValueError, match="worker sub-command"):
        make_app().worker_main(["-l", "INFO"])


def test_start_runs_the_command_line_with_this_app(capsys: pytest.CaptureFixture[str]) -> None:
    app = make_app("started", broker="redis://127.0.0.1:1")
    app.task(name="started.one", shared=False)(lambda: None)
    assert app.start(["check"]) == 0
    assert "started.one" in capsys.readouterr().out


def test_the_report_has_no_secrets() -> None:
    report = make_app(broker="redis://user:secret@127.0.0.1:1/0").bugreport()
    assert "pyworker:" in report
    assert "secret" not in report
    assert "127.0.0.1" in report


@shared_task(name="tests.application.module_level")
def module_level() -> str:
    """A task of no app."""
    return "here"


def test_a_shared_task_is_a_task() -> None:
    assert isinstance(module_level, Task)
    assert module_level() == "here"
    assert module_level.__doc__ == "A task of no app."
    assert pyworker.current_app.__class__ is not Celery


@pytest.mark.parametrize("library", [pyworker, celery], ids=["ours", "celery's"])
@pytest.mark.parametrize("is_strict", [True, False])
def test_tasks_check_arguments_as_the_app_says_unless_they_say_otherwise(library: Any, is_strict: bool) -> None:
    app = library.Celery("strict", broker="memory://", set_as_current=False, strict_typing=is_strict)

    def echo(value: Any) -> Any:
        return value

    plain, checked, unchecked = ({"name": "strict.plain"}, {"name": "strict.yes", "typing": True}, {"typing": False})
    # A shared task would join the applications of all tests that run later in this process.
    tasks = [app.task(shared=False, **options)(echo) for options in (plain, checked, unchecked)]
    assert [task.typing for task in tasks] == [is_strict, True, False]
