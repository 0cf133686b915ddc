"""A program that starts the worker by itself, as management commands and Airflow do."""

from __future__ import annotations

import importlib
import sys

import pyworker


def main() -> None:
    """Take ``-A APP worker ...`` from the command line."""
    # Imported before, as by a program whose settings module starts it all.
    from celery.apps.worker import Worker

    app = importlib.import_module(sys.argv[2]).app
    assert issubclass(app.Worker, Worker)
    pyworker.install()
    pyworker.install()
    app.worker_main(sys.argv[3:])


if __name__ == "__main__":
    main()
