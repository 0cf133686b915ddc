"""What the commands share: the application and the global options."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import click

from pyworker.compat import NotAnApplication, adapt, default_application, is_application, operate
from pyworker.worker.app_loading import find_app

if TYPE_CHECKING:
    from pyworker.operations.protocol import Operations
    from pyworker.worker.protocol import WorkerApp

_UNABLE = "\nUnable to load celery application.\n"


@dataclass
class CliContext:
    """State of one invocation of the command."""

    no_color: bool = False
    quiet: bool = False
    workdir: str | None = None
    _app: Any = field(default=None, repr=False)

    def load(self, given: Any, ctx: click.Context) -> None:
        """Load the application that ``-A`` names, an object when called from Python; usage error if that fails."""
        self._app = _find(given, ctx) if isinstance(given, str) else given
        if not is_application(self._app):
            _fail(ctx, f"{self._app!r} is not a Celery application")

    @property
    def named_app(self) -> Any:
        """The application that was named, ``None`` without ``-A``."""
        return self._app

    @property
    def app(self) -> Any:
        """The application; without ``-A`` the default one. Usage error if there is none.

        An attribute, because commands of Celery's plug-ins read it as one.
        """
        if self._app is None:
            try:
                self._app = default_application()
            except NotAnApplication as error:
                raise click.UsageError(_UNABLE + str(error), click.get_current_context(silent=True)) from error
        return self._app

    def worker_app(self) -> WorkerApp:
        """The application as the worker sees it."""
        return adapt(self.app)

    def operations(self) -> Operations:
        """The application as its operator sees it."""
        return operate(self.app)

    def echo_error(self, text: str) -> None:
        """Say what went wrong."""
        click.secho(text, err=True, fg=None if self.no_color else "red")

    # -- what commands of Celery's plug-ins expect of their context

    @property
    def OK(self) -> str:
        """The word, in green."""
        return self.style("OK", fg="green", bold=True)

    @property
    def ERROR(self) -> str:
        """The word, in red."""
        return self.style("ERROR", fg="red", bold=True)

    def style(self, message: str, **styles: Any) -> str:
        """Colour a text if colours are wanted."""
        return message if self.no_color else click.style(message, **styles)

    def echo(self, message: Any = None, **options: Any) -> None:
        """Write a line."""
        click.echo(message, color=False if self.no_color else None, **options)

    def secho(self, message: Any = None, **options: Any) -> None:
        """Write a line in a style."""
        if self.no_color:
            click.echo(
                message, color=False, **{name: options[name] for name in ("err", "nl", "file") if name in options}
            )
        else:
            click.secho(message, **options)

    def error(self, message: Any = None, **options: Any) -> None:
        """Write a line to standard error."""
        self.secho(message, err=True, **options)


def _find(name: str, ctx: click.Context) -> Any:
    try:
        return find_app(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            _fail_with_traceback(name, ctx)
        _fail(ctx, f"The module {error.name} was not found.")
    except AttributeError as error:
        text = str(error)
        _fail(ctx, text[:1].upper() + text[1:])
    except Exception:
        _fail_with_traceback(name, ctx)


def _fail_with_traceback(name: str, ctx: click.Context) -> NoReturn:
    _fail(ctx, f"While trying to load the module {name} the following error occurred:\n{traceback.format_exc()}")


def _fail(ctx: click.Context, text: str) -> NoReturn:
    ctx.fail(click.style(_UNABLE + text, fg="red"))
